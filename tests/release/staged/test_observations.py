"""What is refused, with file, row and remedy; aliases and encodings; verdict files; samples with rewards."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError, ReleaseError
from safetyvalve.release.staged.folder import open_release, read_release
from safetyvalve.release.staged.recording import record
from safetyvalve.stats import Verdict, append_verdicts
from tests.release.staged.material import SETTINGS, START, good, release, rows, take_in, write

ROW = rows("harm", [0])[0]
MINUTES = {"metric": "minutes", "kind": "bounded", "range": [0, 30], "better": "lower", "margin": 1.0}
BOTH_BAD = SETTINGS["guardrails"][0] | {"metric": "both_bad_rate", "level": 0.2, "better": "lower"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": "2026-01-05T00:00:00"}, "field 'time': is '2026-01-05T00:00:00', without an offset from UTC"),
        ({"time": "soon"}, "a time such as"),
        ({"time": "2099-01-01T00:00:00+00:00"}, "is in the future"),
        ({"time": ""}, "field 'time': is missing"),
        ({"variant": "third"}, "field 'variant': is 'third'; candidate, control, new and old are accepted"),
        ({"metric": "harms"}, "field 'metric': is 'harms'; accepted: human_win_rate, harm"),
        ({"metric": "human_win_rate", "variant": "control"}, "compares the candidate with a level"),
        ({"metric": "human_win_rate"}, "only people's verdicts count"),
        ({"value": "high"}, "field 'value': is 'high'; a number"),
        ({"value": 0.5}, "harm is binary"),
        ({"value": "nan"}, "a finite number"),
        ({"metric": "minutes", "value": -3}, "is -3, below 0, the least that minutes can be"),
        ({"unit": None}, "field 'unit': is missing"),
        ({"source": "oracle"}, "field 'source': is 'oracle'"),
        ({"stage": "full"}, "the release is in the stage 'shadow'"),
        ({"stage": None}, "is before the release began"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = release(tmp_path / "r", guardrails=[*SETTINGS["guardrails"], MINUTES])
    head = read_release(folder).head
    with pytest.raises(DataError, match=message) as caught:
        take_in(folder, [ROW, rows("harm", [0, 0])[1] | change])
    assert "rows.jsonl:2" in str(caught.value)
    assert read_release(folder).head == head
    assert not (folder / "evidence").exists()


def test_a_clock_that_goes_backwards_in_a_file_and_between_files(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    late, early = rows("harm", [0, 0])[::-1]
    with pytest.raises(DataError, match=r"rows\.jsonl:2.* clock goes backwards"):
        take_in(folder, [late, early])
    take_in(folder, [late])
    with pytest.raises(DataError, match=r"up to which harm of the candidate was recorded: the clock goes backwards"):
        take_in(folder, [early], name="early.jsonl")
    take_in(folder, [early | {"variant": "control"}], name="other.jsonl")


def test_duplicates(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    assert take_in(folder, [ROW, ROW])[:2] == (1, 1)
    with pytest.raises(DataError, match=r"recorded before.*: a duplicate"):
        take_in(folder, [ROW | {"value": 1}], name="other.jsonl")
    twice = rows("harm", [0, 1], start=START + timedelta(days=9), prefix="x")
    twice[1]["unit"] = twice[0]["unit"]
    with pytest.raises(DataError, match=r"row 1.*: a duplicate"):
        take_in(folder, twice, name="twice.jsonl")


def test_a_unit_in_both_arms(tmp_path: Path) -> None:
    stages = [{"name": "pilot", "share": 0.5}, {"name": "full", "share": 1.0}]
    folder = release(tmp_path / "r", stages=stages)
    given = [*rows("harm", [0], stage="pilot"), *rows("harm", [0], stage="pilot", variant="control")]
    with pytest.raises(DataError, match="'u0' is in both arms"):
        take_in(folder, given)


def test_csv_of_a_spreadsheet_in_japanese(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    text = "日時,区分,指標,値,単位,段階\r\n2026/01/05 09:00,candidate,harm,0,お客様の番号ひとつ,shadow\r\n"
    file = tmp_path / "観測.csv"
    file.write_bytes(text.encode("cp932"))
    with open_release(folder) as opened:
        with pytest.raises(DataError, match="without an offset"):
            record(opened, file)
        assert record(opened, file, offset="+09:00").added == 1
        with pytest.raises(DataError, match="--utc-offset is 'JST'"):
            record(opened, file, offset="JST")
    found = read_release(folder).observations[0]
    assert (found.unit, found.at) == ("お客様の番号ひとつ", int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000))


def test_rows_of_an_earlier_stage_are_kept_and_not_counted(tmp_path: Path) -> None:
    from safetyvalve.release.staged.decision import approve, decide

    folder = release(tmp_path / "r")
    began = datetime.now(UTC)
    take_in(folder, good())
    with open_release(folder) as opened:
        approve(opened, "b.tanaka", "looked at all of it")
        assert decide(opened).outcome == "promote"
    late = rows("harm", [1], stage=None, prefix="late", start=began)
    done = take_in(folder, late, name="late.jsonl")
    assert (done.added, done.earlier) == (1, 1)
    assert read_release(folder).observations[-1].stage == "shadow"


def _verdict(i: int, value: str, **more: Any) -> Verdict:
    given: dict[str, Any] = {"rater": "p1", "rater_kind": "human", "time": datetime(2026, 1, 5, 8, i % 60, tzinfo=UTC)}
    return Verdict(
        item_id=f"i{i}",
        prompt_id=f"q{i}",
        model_a="old",
        model_b="new",
        verdict=value,
        **given | more,  # type: ignore[arg-type]
    )


def test_verdict_files(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", guardrails=[*SETTINGS["guardrails"], BOTH_BAD])
    file = tmp_path / "verdicts.jsonl"
    given = [_verdict(0, "b"), _verdict(1, "a"), _verdict(2, "both_bad"), _verdict(3, "none")]
    other = _verdict(5, "b").model_copy(update={"model_a": "older"})
    append_verdicts(file, [*given, _verdict(4, "b", rater="j", rater_kind="judge"), other])
    with open_release(folder) as opened:
        done = record(opened, file, stage="shadow")
    assert done.left_out == {"other models": 1, "no verdict": 1}
    found = {(o.metric, o.unit): (o.value, o.source) for o in read_release(folder).observations}
    assert found["human_win_rate", "q0"] == (1.0, "people")
    assert found["human_win_rate", "q1"] == (0.0, "people")
    assert found["both_bad_rate", "q2"] == (1.0, "people")
    assert found["human_win_rate", "q4"] == (1.0, "judge")
    append_verdicts(file, [_verdict(0, "a", rater="p2")])
    with open_release(folder) as opened:
        done = record(opened, file, stage="shadow")
    assert (done.added, done.left_out["later verdicts on a recorded prompt"]) == (0, 1)
    strangers = tmp_path / "strangers.jsonl"
    append_verdicts(strangers, [other])
    with open_release(folder) as opened, pytest.raises(DataError, match="no verdict is about 'new' and 'old'"):
        record(opened, strangers, stage="shadow")


def test_samples_with_rewards(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    with open_release(folder) as opened:
        with pytest.raises(ReleaseError, match="--variant is None"):
            record(opened, run)
        with pytest.raises(DataError, match="has no samples"):
            record(opened, run, variant="candidate")
        write(run / "samples" / "step-000000.jsonl", [{"probe": "a"}])
        with pytest.raises(DataError, match="reward model's score"):
            record(opened, run, variant="candidate")
        lines = [{"probe": "a", "proxy_reward": 1.0}, {"probe": "a", "proxy_reward": 2.0}]
        write(run / "samples" / "step-000010.jsonl", lines)
        assert record(opened, run, variant="candidate").added == 1
    found = read_release(folder).observations[0]
    assert (found.metric, found.unit, found.value, found.stage) == ("reward", "a", 1.5, "shadow")
    assert json.loads((folder / "log.jsonl").read_text().split("\n")[2])["payload"]["source"] == "run"
