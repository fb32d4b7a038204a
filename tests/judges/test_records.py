"""Judgments to records and files: both raw verdicts kept, nothing doubled, nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError, UsageError
from safetyvalve.judges import FakeJudge, Judgment, Opinion, judge_pairs, pair_answers, save_verdicts, verdicts_of
from safetyvalve.judges.cache import OpinionCache
from safetyvalve.judges.protocol import Choice, now
from safetyvalve.judges.run import plan
from safetyvalve.judges.tally import Prices, Tokens, count
from safetyvalve.stats import Verdict, append_verdicts, read_verdicts, resolve
from tests.judges.stand_in import answer, some_pairs


def _records(first: Choice, second: Choice) -> list[Verdict]:
    """Of a pair that was judged so with ``a`` first, and so with ``b`` first."""

    def opinion(choice: Choice) -> Opinion:
        return Opinion(choice=choice, cause="not parsable" if choice == "none" else None, model="j", time=now())

    (pair,) = some_pairs(1)
    judgment = Judgment(pair, {"a_first": opinion(first), "b_first": opinion(second)})
    return verdicts_of(judgment, FakeJudge(), "j")


@pytest.mark.parametrize(
    ("first", "second", "raw", "resolved"),
    [
        ("first", "second", ("a", "a"), "a"),
        ("second", "first", ("b", "b"), "b"),
        ("first", "first", ("a", "b"), "tie"),
        ("second", "second", ("b", "a"), "tie"),
        ("tie", "first", ("tie", "b"), "tie"),
        ("both_bad", "both_bad", ("both_bad", "both_bad"), "both_bad"),
        ("both_bad", "tie", ("both_bad", "tie"), "tie"),
        ("none", "first", ("none", "b"), "none"),
        ("none", "none", ("none", "none"), "none"),
    ],
)
def test_both_orders(first: Choice, second: Choice, raw: tuple[str, str], resolved: str) -> None:
    records = _records(first, second)
    assert tuple(r.verdict for r in records) == raw
    assert [(r.position, r.repeat) for r in records] == [("a_first", 0), ("b_first", 1)]
    (entry,) = resolve(records)
    value = entry.verdict if entry.model_a == "good" else {"a": "b", "b": "a"}.get(entry.verdict, entry.verdict)
    assert value == resolved
    marked = all("orders disagree" in r.tags for r in records)
    assert marked == (raw[0] != raw[1] and "none" not in raw)
    assert [r.tags == ("not parsable",) for r in records] == [v == "none" for v in raw]


def test_equal_answers_are_not_asked_about() -> None:
    same = pair_answers([answer("x", "1"), answer("y", " 1\n"), answer("x", "", "q"), answer("y", " ", "q")]).pairs
    judge = FakeJudge()
    assert plan(judge, same, None).asked == {}
    records = [verdicts_of(j, judge, "fake") for j in judge_pairs(judge, same)]
    assert [[(v.verdict, v.tags) for v in item] for item in records] == [
        [("tie", ("same text",))],
        [("both_bad", ("same text",))],
    ]
    assert count(records).same_text == 2


def test_an_empty_answer_is_asked_about() -> None:
    assert len(plan(FakeJudge(), pair_answers([answer("x", ""), answer("y", "1")]).pairs, None).asked) == 2


def test_saving_again_adds_nothing_and_raters_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "verdicts.jsonl"
    records = _records("first", "second")
    assert save_verdicts(file, records) == (2, 0)
    assert save_verdicts(file, records) == (0, 2)
    later = [r.model_copy(update={"time": now()}) for r in records]  # a judge without a cache judged again
    assert save_verdicts(file, later) == (0, 2)
    person = records[0].model_copy(update={"rater": "anna", "rater_kind": "human", "time": None})
    append_verdicts(file, [person])
    assert save_verdicts(file, records) == (0, 2)
    found = read_verdicts(file)
    assert found.verdicts == (*records, person)


def test_another_verdict_of_the_same_rater_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    save_verdicts(file, _records("first", "second"))
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"another verdict of 'j'.*\(a, now b\)"):
        save_verdicts(file, _records("second", "first"))
    assert file.read_bytes() == before


def test_a_line_that_a_killed_process_left_half_written(tmp_path: Path) -> None:
    file, records = tmp_path / "v.jsonl", _records("first", "second")
    save_verdicts(file, records)
    whole = file.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        file.write_bytes(whole[:cut])
        save_verdicts(file, records)
        assert file.read_bytes() == whole


@pytest.mark.parametrize("torn", [b'{"item_id":"someone else', b"not json\n", b'{"verdict":"a"}\n'])
def test_what_is_not_ours_is_left_alone(torn: bytes, tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    file.write_bytes(torn)
    with pytest.raises(DataError, match=r"v.jsonl:1: is no verdict record.*Nothing was added"):
        save_verdicts(file, _records("first", "second"))
    assert file.read_bytes() == torn


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        save_verdicts(tmp_path / "file" / "v.jsonl", _records("first", "second"))


def test_tokens_and_cost() -> None:
    def opinion(**fields: Any) -> Opinion:
        return Opinion(choice="tie", model="j", time=now(), **fields)

    tokens = Tokens.of([opinion(prompt_tokens=1000, completion_tokens=50), opinion(), opinion(prompt_tokens=7)])
    assert tokens == (1000, 50, 2)
    assert Prices(2.0, 10.0).of(tokens) == pytest.approx(0.0025)
    for wrong in ((-1, 1), (1, float("nan"))):
        with pytest.raises(UsageError, match="finite numbers"):
            Prices(*wrong).checked()


def test_a_damaged_cache_entry_is_asked_again(tmp_path: Path) -> None:
    cache, judge, pairs = OpinionCache(tmp_path), FakeJudge(), some_pairs(2)
    first = judge_pairs(judge, pairs, cache=cache)
    files = sorted(tmp_path.rglob("*.json"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:20])
    assert len(plan(judge, pairs, cache).todo) == 1
    again = judge_pairs(judge, pairs, cache=cache)
    assert plan(judge, pairs, cache).todo == []
    assert [[o.choice for o in j.opinions.values()] for j in first] == [
        [o.choice for o in j.opinions.values()] for j in again
    ]


def test_the_cache_knows_judges_apart(tmp_path: Path) -> None:
    cache, pairs = OpinionCache(tmp_path), some_pairs(1)
    judge_pairs(FakeJudge(), pairs, cache=cache)
    assert len(plan(FakeJudge(seed=1), pairs, cache).todo) == 2
    assert plan(FakeJudge(), pairs, cache).todo == []
    with pytest.raises(UsageError, match="cache folder"):
        OpinionCache(next(tmp_path.rglob("*.json")))
