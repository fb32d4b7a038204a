"""Synthetic tickets of half a year: 150 customers, each under the old or the new system by a coin.

``python -m safetyvalve.release.examples.make_tickets`` writes the files beside this one again, byte for byte. The new
system is made to need fewer and shorter corrections, a little less handling and somewhat fewer complaints; every figure
is invented.
"""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["files"]

SEED, TICKETS, CUSTOMERS, AGENTS, DAYS = 20261128, 480, 150, 12, 175
START = datetime(2026, 1, 5, 9)


class _System(NamedTuple):
    name: str
    name_ja: str
    share_edited: float
    edit_minutes: float
    handle_minutes: float
    complaints: float
    satisfaction: float


SYSTEMS = (
    _System("current", "現行", 0.45, 7.5, 11.0, 0.07, 3.5),
    _System("rpo", "新方式", 0.26, 5.5, 10.0, 0.05, 3.8),
)
ANSWERED = 0.55
HEADERS = {
    "en": "ticket_id,created_at,solved_at,agent,customer,variant,handle_min,edited,edit_min,reopens,complaint,csat",
    "ja": "チケット番号,受付日時,解決日時,担当者,顧客番号,群,対応時間,修正有無,修正時間,再オープン数,クレーム,満足度",
}
NAMES = ("佐藤", "鈴木", "高橋", "田中", "伊藤", "渡辺", "山本", "中村", "小林", "加藤", "吉田", "山田")


class _Row(NamedTuple):
    number: int
    created: datetime
    solved: datetime
    agent: int
    customer: int
    system: _System
    handle: float
    edit: float
    reopens: int
    complaint: bool
    csat: int | None


def files() -> dict[str, bytes]:
    """The bytes of each file by name."""
    rows = _rows()
    return {
        "tickets.csv": _table("en", [_english(r) for r in rows]).encode(),
        "tickets_ja.csv": _table("ja", [_japanese(r) for r in rows]).encode("cp932"),
    }


def _rows() -> list[_Row]:
    draw = np.random.default_rng(SEED)
    systems = draw.permutation(np.arange(CUSTOMERS) % 2)
    slow = draw.gamma(20, 1 / 20, CUSTOMERS)  # how much work a customer's tickets are, mean 1
    when = np.sort(draw.uniform(0, DAYS, TICKETS))
    rows = []
    for i, day in enumerate(when):
        customer = int(draw.integers(CUSTOMERS))
        s, factor = SYSTEMS[int(systems[customer])], float(slow[customer])
        created = (START + timedelta(days=int(day), minutes=int(draw.integers(0, 540)))).replace(second=0)
        edited = draw.random() < s.share_edited
        edit = max(0.5, round(float(draw.gamma(4, s.edit_minutes * factor / 4)) * 2) / 2) if edited else 0.0
        handle = max(1.0, round(float(draw.gamma(6, s.handle_minutes * factor / 6)) * 2) / 2) + edit
        rating = float(draw.normal(s.satisfaction, 1.0))
        rows.append(
            _Row(
                10001 + i,
                created,
                created + timedelta(minutes=int(handle) + int(draw.gamma(1.2, 900))),
                int(draw.integers(AGENTS)),
                customer,
                s,
                handle,
                edit,
                int(draw.random() < 0.06),
                bool(draw.random() < s.complaints),
                int(np.clip(round(rating), 1, 5)) if draw.random() < ANSWERED else None,
            )
        )
    return rows


def _english(r: _Row) -> list[object]:
    return [
        r.number, f"{r.created:%Y-%m-%d %H:%M}", f"{r.solved:%Y-%m-%d %H:%M}", f"agent-{r.agent + 1:02d}",
        f"C{r.customer + 1:03d}", r.system.name, f"{r.handle:g}", "yes" if r.edit else "no",
        f"{r.edit:g}" if r.edit else "", r.reopens, "yes" if r.complaint else "no", r.csat or "",
    ]  # fmt: skip


def _japanese(r: _Row) -> list[object]:
    """As an export of a Japanese help desk may look: h:mm:ss, あり and なし, full-width ratings."""
    wide = str.maketrans("12345", "１２３４５")
    return [
        r.number, f"{r.created:%Y/%m/%d %H:%M}", f"{r.solved:%Y/%m/%d %H:%M}", NAMES[r.agent],
        f"C{r.customer + 1:03d}", r.system.name_ja, _clock(r.handle), "あり" if r.edit else "なし",
        _clock(r.edit) if r.edit else "", r.reopens, "あり" if r.complaint else "なし",
        str(r.csat or "").translate(wide),
    ]  # fmt: skip


def _clock(minutes: float) -> str:
    seconds = round(minutes * 60)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _table(lang: str, rows: list[list[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(HEADERS[lang].split(","))
    writer.writerows(rows)
    return stream.getvalue()


if __name__ == "__main__":
    for name, data in files().items():
        Path(__file__).with_name(name).write_bytes(data)
