"""Which column of a ticket file is which: names in English and Japanese, with or without a unit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from safetyvalve.errors import DataError

__all__ = ["ALIASES", "ELAPSED", "Column", "find_columns", "is_japanese_header"]

ALIASES: dict[str, tuple[str, ...]] = {
    "ticket_id": (
        "ticket_id", "ticket", "ticket_number", "ticket_no", "case_id", "case_number", "id",
        "チケット番号", "チケットid", "チケットno", "問い合わせ番号", "問合せ番号", "お問い合わせ番号",
        "受付番号", "案件番号", "案件id",
    ),
    "created_at": (
        "created_at", "created", "opened_at", "opened", "received_at",
        "受付日時", "受付日", "作成日時", "作成日", "起票日時", "起票日", "問い合わせ日時", "問合せ日時",
    ),
    "solved_at": (
        "solved_at", "solved", "resolved_at", "resolved", "closed_at", "closed",
        "解決日時", "解決日", "完了日時", "完了日", "対応完了日時", "クローズ日時",
    ),
    "agent": ("agent", "agent_id", "assignee", "担当者", "担当", "担当者id", "対応者", "オペレーター", "オペレータ"),
    "customer": (
        "customer", "customer_id", "requester", "requester_id", "user_id",
        "顧客", "顧客id", "顧客番号", "お客様", "お客様番号", "会員番号", "依頼者",
    ),
    "variant": (
        "variant", "arm", "group", "treatment_group", "群", "区分", "グループ", "バリアント", "割付", "割り付け", "施"
        "策",
    ),
    "handle_min": (
        "handle_min", "handle_time", "handling_time", "handle_minutes", "handling_minutes", "handle", "aht",
        "work_time",
        "対応時間", "処理時間", "作業時間", "実作業時間", "応対時間",
    ),
    "edited": ("edited", "corrected", "修正", "修正有無", "修正の有無", "修正あり", "編集", "編集有無"),
    "edit_min": (
        "edit_min", "edit_time", "edit_minutes", "correction_min", "correction_time", "rework_min",
        "修正時間", "編集時間", "手直し時間",
    ),
    "reopens": (
        "reopens", "reopened", "reopen_count", "再オープン", "再オープン数", "再オープン回数", "再開回数", "再問い合"
        "わせ回数",
    ),
    "complaint": ("complaint", "complained", "クレーム", "クレーム有無", "苦情", "苦情有無"),
    "csat": ("csat", "satisfaction", "satisfaction_score", "csat_score", "満足度", "顧客満足度", "満足度評価"),
    "harm": ("harm", "harmful", "incident", "事故", "有害", "インシデント", "重大事故"),
}  # fmt: skip
"""Names of each column, as :func:`_plain` leaves them; the first is ours."""

ELAPSED = frozenset(
    {
        "elapsed", "elapsed_time", "elapsed_min", "resolution_time", "resolution_min", "full_resolution_time",
        "time_to_resolution", "time_to_resolve", "ttr", "lead_time", "turnaround_time", "age",
        "解決時間", "解決所要時間", "解決までの時間", "経過時間", "リードタイム", "所要期間", "対応期間",
    }
)  # fmt: skip
"""Time on the clock from opening to solving: it holds nights and waiting, and nobody is paid for it."""

_UNITS = {
    "": 1.0, "min": 1.0, "mins": 1.0, "minutes": 1.0, "m": 1.0, "分": 1.0,
    "s": 1 / 60, "sec": 1 / 60, "secs": 1 / 60, "seconds": 1 / 60, "秒": 1 / 60,
    "h": 60.0, "hours": 60.0, "hour": 60.0, "時間": 60.0,
}  # fmt: skip
_WITH_UNIT = re.compile(r"(?P<name>.+?)(?:\((?P<unit>[^()]*)\)|\[(?P<unit2>[^\[\]]*)\])")
_ENGLISH_UNIT = re.compile(r"(?P<name>(?:handle|handling|edit|correction)(?:_time)?)_(?P<unit>secs?|seconds|hours?)")
_TIMED = ("handle_min", "edit_min")


class Column(NamedTuple):
    """A column of the file that is used."""

    header: str
    factor: float
    """Minutes that one of its unit is; 1 for what is no time."""


def find_columns(headers: Iterable[str], file: str, row: int = 1) -> tuple[dict[str, Column], tuple[str, ...]]:
    """Our name -> column, and the headers that are no ticket column.

    Raises:
        DataError: two columns of one meaning, a unit that is not known, elapsed time where labour should be, or no
            ``ticket_id`` or ``created_at``.
    """
    found: dict[str, Column] = {}
    ignored: list[str] = []
    elapsed: list[str] = []
    for header in headers:
        plain, unit = _split_unit(header)
        name = _BY_ALIAS.get(plain)
        if name is None:
            elapsed += [header] if plain in ELAPSED else []
            ignored.append(header)
            continue
        if name in found:
            raise DataError(
                f"has the columns '{found[name].header}' and '{header}', which both mean {name}; one is accepted. "
                "Remove "
                "or rename one.",
                file=file,
                row=row,
            )
        if name in _TIMED and unit not in _UNITS:
            raise DataError(
                f"the column '{header}' is in '{unit}'; accepted: min (分), sec (秒), h (時間). Rename it.",
                file=file,
                row=row,
            )
        found[name] = Column(header, _UNITS[unit] if name in _TIMED else 1.0)
    if elapsed and "handle_min" not in found:
        raise DataError(
            f"has '{elapsed[0]}', which is elapsed time from opening to solving, and no handling time: nights and "
            "waiting are no labour, and money would be counted that nobody is paid. Add handle_min (対応時間), the "
            f"minutes somebody worked on the ticket, or remove '{elapsed[0]}' to leave handling out.",
            file=file,
            row=row,
            field=elapsed[0],
        )
    for needed in ("ticket_id", "created_at"):
        if needed not in found:
            raise DataError(
                f"has no column {needed}; its columns are {', '.join(ignored + [c.header for c in found.values()])}. "
                f"Accepted: {', '.join(ALIASES[needed])}. Add or rename it.",
                file=file,
                row=row,
            )
    return found, tuple(ignored)


def is_japanese_header(text: str) -> bool:
    """Whether a header line has at least two names of columns that are Japanese."""
    cells = re.split(r"[,;\t]", text.split("\n", 1)[0].strip("\r\n"))
    names = [_split_unit(cell.strip().strip('"'))[0] for cell in cells]
    return sum(not n.isascii() and (n in _BY_ALIAS or n in ELAPSED) for n in names) >= 2


def _split_unit(header: str) -> tuple[str, str]:
    """The name in its plain form, and its unit."""
    plain = _plain(header)
    if match := _WITH_UNIT.fullmatch(plain):
        return match["name"].strip(" _"), (match["unit"] or match["unit2"] or "").strip()
    if match := _ENGLISH_UNIT.fullmatch(plain):
        name = match["name"] if match["name"].endswith("_time") else f"{match['name']}_time"
        return name, match["unit"]
    return plain, ""


def _plain(header: str) -> str:
    """Lower case, full-width letters as usual ones, spaces and hyphens as underscores."""
    text = unicodedata.normalize("NFKC", header).strip().strip("\ufeff").lower()
    return re.sub(r"[\s\-]+", "_", text) if text.isascii() else re.sub(r"\s+", "", text)


_BY_ALIAS = {_plain(alias): name for name, aliases in ALIASES.items() for alias in aliases}
