"""Ticket files: what is read, and what is refused with its place."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyvalve.errors import DataError, UsageError
from safetyvalve.release import tickets_cells as cells
from safetyvalve.release.tickets import read_tickets
from safetyvalve.release.tickets_columns import ALIASES, ELAPSED, find_columns
from tests.release.tickets import write

COLUMNS = "ticket_id,created_at,solved_at,agent,customer,variant,handle_min,edited,edit_min,reopens,complaint,csat,harm"
ENGLISH = f"""{COLUMNS},queue
A-1,2026-01-05 09:30,2026-01-06 10:00,sato,C1,old,12,yes,4.5,1,no,4,0,mail
A-2,2026-02-01T09:30:00,,suzuki,C2,new,0:08:30,no,,0,,5,,mail
"""
JAPANESE = """チケット番号,受付日時,解決日時,担当者,顧客番号,群,対応時間（分）,修正有無,修正時間,再オープン数,\
クレーム,満足度,事故,窓口
Ａ-1,２０２６/１/５ ９:３０,2026年1月6日 10時00分,佐藤,C1,現行,１２,あり,0:04:30,１,なし,４,×,電子
A-2,2026年2月1日 9時30分,,鈴木,C2,新,8分30秒,無,,０,,５,,電子
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
@pytest.mark.parametrize("text", [ENGLISH, JAPANESE], ids=["en", "ja"])
def test_names_encodings_and_ways_of_writing(tmp_path: Path, text: str, encoding: str) -> None:
    found = read_tickets([write(tmp_path / "t.csv", text, encoding)])
    first, second = found.rows
    assert (first.created_at, first.solved_at) == (datetime(2026, 1, 5, 9, 30), datetime(2026, 1, 6, 10))
    assert (first.handle_min, first.edited, first.edit_min, first.reopens) == (12, True, 4.5, 1)
    assert (first.complaint, first.csat, first.harm, first.customer) == (False, 4, False, "C1")
    assert (second.solved_at, second.handle_min, second.edited, second.edit_min) == (None, 8.5, False, 0)
    assert (second.complaint, second.csat, second.harm, second.row) == (None, 5, None, 3)
    assert found.files[0].ignored in (("queue",), ("窓口",))
    assert found.months == [(2026, 1), (2026, 2)]


def test_tabs_semicolons_and_json_lines(tmp_path: Path) -> None:
    rows = ENGLISH.splitlines()
    tab = write(tmp_path / "t.tsv", "\n".join(r.replace(",", "\t") for r in rows))
    semicolon = write(tmp_path / "s.csv", "\n".join(r.replace(",", ";") for r in rows))
    lines = write(
        tmp_path / "t.jsonl",
        '{"ticket_id": 1, "created_at": "2026-01-05", "handle_min": 12.5, "complaint": true}\n'
        '{"ticket_id": 2, "created_at": "2026-01-06", "csat": 3}\n',
    )
    assert read_tickets([tab]).rows[0].handle_min == read_tickets([semicolon]).rows[0].handle_min == 12
    first, second = read_tickets([lines]).rows
    assert (first.ticket_id, first.handle_min, first.complaint, second.csat) == ("1", 12.5, True, 3)


def test_workbooks(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["チケット番号", "受付日時", "対応時間", "修正時間", "満足度"])
    sheet.append([1001, datetime(2026, 1, 5, 9, 30), time(0, 12, 30), 2.5, 4])
    sheet.append([])
    sheet.append([1002, date(2026, 1, 6), timedelta(minutes=7), None, 5])
    book.save(tmp_path / "t.xlsx")
    found = read_tickets([tmp_path / "t.xlsx"])
    assert found.files[0].kind == "xlsx, sheet Sheet"
    assert [(t.ticket_id, t.handle_min, t.edited, t.row) for t in found.rows] == [
        ("1001", 12.5, True, 2),
        ("1002", 7, None, 4),
    ]
    sheet["C6"], sheet["A6"], sheet["B6"] = "=1+2", 1003, datetime(2026, 1, 7)
    book.save(tmp_path / "f.xlsx")
    with pytest.raises(
        DataError, match=r"f\.xlsx:6, field '対応時間': is the formula '=1\+2' without a computed value"
    ):
        read_tickets([tmp_path / "f.xlsx"])
    with pytest.raises(UsageError, match="is no workbook; leave it out"):
        read_tickets([write(tmp_path / "t.csv", ENGLISH)], sheet="Sheet")
    with pytest.raises(DataError, match="has no sheet 'x'; accepted: Sheet"):
        read_tickets([tmp_path / "t.xlsx"], sheet="x")


HEAD = "ticket_id,created_at,solved_at,handle_min,edited,edit_min,csat"
BAD = {
    "negative": ("2,2026-01-06,,-3,,,", 3, "minutes of work are 0 or more"),
    "full-width negative": ("2,2026-01-06,,－３,,,", 3, "minutes of work are 0 or more"),
    "twice": ("1,2026-01-06,,3,,,", 3, "ticket '1' stands here again, first in"),
    "backwards": ("2,2026-01-06 10:00,2026-01-06 09:59,3,,,", 3, "a clock went backwards"),
    "gap": ("2,2026-04-06,,3,,,", 3, "no ticket of 2026-02, 2026-03"),
    "a day of work": ("2,2026-01-06,,1800,,,", 3, "1,800 minutes of work on one ticket"),
    "ambiguous date": ("2,01/02/2026,,3,,,", 3, "day and month cannot be told apart"),
    "no such date": ("2,2026-02-30,,3,,,", 3, "which is no date"),
    "ambiguous clock": ("2,2026-01-06,,12:30,,,", 3, "hours and minutes or minutes and seconds"),
    "words": ("2,2026-01-06,,long,,,", 3, "accepted: minutes such as 12.5, h:mm:ss"),
    "seconds over 59": ("2,2026-01-06,,0:10:61,,,", 3, "below 60"),
    "contradiction": ("2,2026-01-06,,9,no,4,", 3, "was not edited"),
    "scale": ("2,2026-01-06,,9,,,9", 3, "satisfaction from 1 to 5"),
    "zone": ("2,2026-01-06T09:00+09:00,,9,,,", 3, "Export all times with a zone, or all without"),
    "lost character": ("2\ufffd,2026-01-06,,9,,,", 3, "an earlier conversion lost a character"),
    "no id": (",2026-01-06,,9,,,", 3, "is empty; every ticket has one"),
    "flag": ("2,2026-01-06,,9,maybe,,", 3, "accepted: 1 or 0, yes or no"),
    "ragged": ("2,2026-01-06,,9", 3, "has 4 cells, the header 7"),
    "not finite": ("2,2026-01-06,,9,,,nan", 3, "a number such as 12"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_with_its_place_and_a_remedy(tmp_path: Path, case: str) -> None:
    row, number, message = BAD[case]
    file = write(tmp_path / "t.csv", f"{HEAD}\n1,2026-01-05,,9,,,\n{row}\n")
    with pytest.raises(DataError) as caught:
        read_tickets([file])
    assert (str(caught.value.file), caught.value.row) == (str(file), number)
    assert message in str(caught.value)
    assert str(caught.value).rstrip().endswith((".", ")", "×"))


def test_the_good_row_alone_is_read(tmp_path: Path) -> None:
    assert len(read_tickets([write(tmp_path / "t.csv", f"{HEAD}\n1,2026-01-05,,9,,,\n")]).rows) == 1


def test_a_ticket_in_two_files_is_twice(tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", f"{HEAD}\n1,2026-01-05,,9,,,\n")
    two = write(tmp_path / "b.csv", f"{HEAD}\n1,2026-01-05,,9,,,\n")
    with pytest.raises(DataError, match=r"b\.csv:2: ticket '1' stands here again, first in .*a\.csv:2"):
        read_tickets([one, two])


def test_elapsed_time_is_no_labour(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"t\.csv:1, field '解決時間': .*elapsed time from opening to solving.*Add handle_min"
    ):
        read_tickets([write(tmp_path / "t.csv", "チケット番号,受付日時,解決時間\n1,2026-01-05,300\n")])
    rows = [f"{i},2026-01-05 09:{i:02d},2026-01-05 1{i}:{i:02d},{60 * (i + 1)},,," for i in range(6)]
    with pytest.raises(
        DataError, match=r"t\.csv:2, field 'handle_min': handling time is the time from .* 6 of 6 tickets"
    ):
        read_tickets([write(tmp_path / "t.csv", "\n".join([HEAD, *rows]))])
    mended = [*rows[:2], *(r.replace(f",{60 * (i + 3)},", f",{i + 5},") for i, r in enumerate(rows[2:]))]
    assert len(read_tickets([write(tmp_path / "t.csv", "\n".join([HEAD, *mended]))]).rows) == 6
    # Beside handling time, elapsed time is only a column that is not used.
    beside = write(tmp_path / "u.csv", "ticket_id,created_at,handle_min,resolution_time\n1,2026-01-05,5,300\n")
    assert read_tickets([beside]).files[0].ignored == ("resolution_time",)


def test_two_encodings_in_one_file(tmp_path: Path) -> None:
    head, row = "チケット番号,受付日時,担当者\n", "{},2026-01-05,佐藤さん\n"
    for first, second, number in (("cp932", "utf-8", 1), ("utf-8", "cp932", 3)):
        raw = (head + row.format(1)).encode(first) + row.format(2).encode(second)
        (tmp_path / "t.csv").write_bytes(raw)
        with pytest.raises(DataError, match="parts of two encodings were joined") as caught:
            read_tickets([tmp_path / "t.csv"])
        assert caught.value.row == number


def test_kanji_alone_prove_japanese_by_the_names_of_columns(tmp_path: Path) -> None:
    rows = "".join(f"{i},2026-01-{i:02d},田中一郎\n" for i in range(1, 20))
    file = write(tmp_path / "t.csv", "受付番号,受付日時,担当者\n" + rows, "cp932")
    assert read_tickets([file]).rows[0].agent == "田中一郎"


@pytest.mark.parametrize(
    ("header", "minutes"),
    [
        ("handle_sec", 1.5),
        ("対応時間(秒)", 1.5),
        ("handle_min", 90),
        ("対応時間（時間）", 5400),
        ("Handling Time [min]", 90),
    ],
)
def test_units_in_headers(tmp_path: Path, header: str, minutes: float) -> None:
    file = write(tmp_path / "t.csv", f"ticket_id,created_at,{header}\n1,2026-01-05,90\n")
    assert read_tickets([file], longest_minutes=10_000).rows[0].handle_min == minutes


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("created_at,handle_min", "has no column ticket_id"),
        ("ticket_id,handle_min", "has no column created_at"),
        ("ticket_id,created_at,handle_min,対応時間", "both mean handle_min"),
        ("ticket_id,created_at,対応時間(日)", "is in '日'"),
    ],
)
def test_headers_that_are_refused(header: str, message: str) -> None:
    with pytest.raises(DataError, match=r"^t\.csv:1.*") as caught:
        find_columns(header.split(","), "t.csv")
    assert message in str(caught.value)


def test_no_alias_means_two_things() -> None:
    names = [alias for aliases in ALIASES.values() for alias in aliases]
    assert len(names) == len(set(names)) and not ELAPSED & set(names)


def test_since_and_until(tmp_path: Path) -> None:
    text = f"{HEAD}\n1,2026-01-05,,,,,\n2,2026-04-05,,,,,\n3,2026-05-05,,,,,\n"
    file = write(tmp_path / "t.csv", text)
    found = read_tickets([file], since=datetime(2026, 4, 1), until=datetime(2026, 5, 1))
    assert ([t.ticket_id for t in found.rows], found.outside) == (["2"], 2)
    with pytest.raises(DataError, match="widen --since and --until"):
        read_tickets([file], since=datetime(2027, 1, 1))
    with pytest.raises(UsageError, match="at least one"):
        read_tickets([])
    with pytest.raises(DataError, match="has no tickets"):
        read_tickets([write(tmp_path / "e.csv", HEAD + "\n")])


FULL_WIDTH = str.maketrans("0123456789.:/-", "０１２３４５６７８９．：／－")


@given(st.integers(0, 20), st.integers(0, 59), st.integers(0, 59), st.booleans())
def test_durations_are_what_was_written(hours: int, minutes: int, seconds: int, wide: bool) -> None:
    whole = hours * 60 + minutes + seconds / 60
    for text in (f"{hours}:{minutes:02d}:{seconds:02d}", f"{hours}時間{minutes}分{seconds}秒", f"{whole:.9f}"):
        assert cells.minutes(text.translate(FULL_WIDTH) if wide else text) == pytest.approx(whole, abs=1e-7)


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)),
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y年%m月%d日%H時%M分%S秒", "%Y-%m-%dT%H:%M:%SZ"]),
    st.booleans(),
)
def test_times_are_what_was_written(when: datetime, form: str, wide: bool) -> None:
    when = when.replace(microsecond=0, tzinfo=UTC if form.endswith("Z") else None)
    text = when.strftime(form)
    assert cells.instant(text.translate(FULL_WIDTH) if wide else text) == when


@given(st.text(string.printable + "分秒時間年月日ー：０９あ", max_size=12))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    """Never another error, and never a negative or infinite duration."""
    for parse in (cells.minutes, cells.number, cells.count, cells.flag, cells.instant, cells.name):
        try:
            value = parse(text)
        except ValueError as error:
            assert "accepted" in str(error) or "Correct" in str(error) or "below 60" in str(error)
        else:
            assert parse is not cells.minutes or value is None or 0 <= value < float("inf")
