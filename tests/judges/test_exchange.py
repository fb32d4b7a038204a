"""Files of AlpacaEval and MT-Bench: what they made is read, and what we made is in their forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError, UsageError
from safetyvalve.judges import FakeJudge, judge_pairs, read_answers, read_pairs, verdicts_of
from safetyvalve.judges.convert import read_verdict_file, write_alpaca_eval, write_mt_bench
from safetyvalve.stats import Verdict, resolve
from tests.judges.test_sources import lines, make_run


def _annotation(**fields: Any) -> dict[str, Any]:
    return {
        "instruction": "Name a colour.",
        "output_1": "Blue.",
        "generator_1": "base",
        "output_2": "Red, I think.",
        "generator_2": "mine",
        "annotator": "judge-x",
        "dataset": "own",
        "preference": 2.0,
        "raw_completion": "M",
        **fields,
    }


@pytest.mark.parametrize(
    ("preference", "verdict", "tags"),
    [
        (1, "a", ()),
        (1.0, "a", ()),
        (2.0, "b", ()),
        (1.5, "tie", ()),
        (0, "tie", ()),
        (None, "none", ("no preference",)),
        (float("nan"), "none", ("no preference",)),
        (1.0001, "a", ("preference 1.0001",)),
        (1.98, "b", ("preference 1.98",)),
    ],
)
def test_annotations_are_read(preference: Any, verdict: str, tags: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([_annotation(preference=preference)]))
    (found,) = read_verdict_file(file)
    assert (found.verdict, found.tags, found.model_a, found.model_b) == (verdict, tags, "base", "mine")
    assert (found.rater, found.rater_kind, found.length_a, found.length_b) == ("judge-x", "judge", 5, 13)
    # Our own judges give the same answers the same item.
    outputs = [
        {"instruction": "Name a colour.", "output": "Blue.", "generator": "base"},
        {"instruction": "Name a colour.", "output": "Red, I think.", "generator": "mine"},
    ]
    (pair,) = read_pairs([str(lines(tmp_path / "outputs.jsonl", outputs))]).pairs
    assert pair.id == found.item_id
    assert read_verdict_file(file, rater_kind="human")[0].rater_kind == "human"


@pytest.mark.parametrize("preference", [3, -1, 0.5, "1", True])
def test_preferences_that_are_none(preference: Any, tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([_annotation(), _annotation(preference=preference, instruction="q")]))
    with pytest.raises(DataError, match=r"annotations.json:2, field 'preference'"):
        read_verdict_file(file)


def test_an_annotation_given_twice(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([_annotation(), _annotation()]))
    with pytest.raises(DataError, match="2 verdicts of 'judge-x'"):
        read_verdict_file(file)


def _bench(folder: Path) -> Path:
    (folder / "model_answer").mkdir(parents=True)
    (folder / "model_judgment").mkdir()
    lines(
        folder / "question.jsonl",
        [
            {"question_id": 81, "category": "writing", "turns": ["Write.", "Shorter."]},
            {"question_id": 82, "category": "math", "turns": ["1+1?"], "reference": ["2"]},
        ],
    )
    for model in ("m1", "m2"):
        lines(
            folder / "model_answer" / f"{model}.jsonl",
            [
                _answer(81, model, [f"{model} wrote", f"{model} short"]),
                _answer(82, model, [f"{model} says 2"]),
            ],
        )
    return folder


def _answer(question: int, model: str, turns: list[str]) -> dict[str, Any]:
    choices = [{"index": 0, "turns": turns}]
    return {"question_id": question, "answer_id": "x", "model_id": model, "choices": choices, "tstamp": 1.0}


def test_answers_of_an_mt_bench_folder(tmp_path: Path) -> None:
    folder = _bench(tmp_path / "bench")
    first = read_pairs([str(folder)]).pairs
    assert [(p.prompt_id, p.answers) for p in first] == [
        ("81 turn 1", ("m1 wrote", "m2 wrote")),
        ("82 turn 1", ("m1 says 2", "m2 says 2")),
    ]
    (second,) = read_pairs([str(folder)], turn=2).pairs
    assert [m.content for m in second.a] == ["Write.", "m1 wrote", "Shorter.", "m1 short"]
    assert [m.content for m in second.b] == ["Write.", "m2 wrote", "Shorter.", "m2 short"]


def test_an_answer_to_no_question(tmp_path: Path) -> None:
    folder = _bench(tmp_path / "bench")
    lines(folder / "model_answer" / "m3.jsonl", [_answer(99, "m3", ["x"])])
    with pytest.raises(DataError, match=r"m3.jsonl:1, field 'question_id': is 99"):
        read_pairs([str(folder)])
    lines(folder / "model_answer" / "m3.jsonl", [{"question_id": 81, "choices": []}])
    with pytest.raises(DataError, match=r"field 'choices': is \[\]"):
        read_pairs([str(folder)])


def _judgment(first: str, second: str, **fields: Any) -> dict[str, Any]:
    return {
        "question_id": 81,
        "model_1": "m1",
        "model_2": "m2",
        "g1_winner": first,
        "g2_winner": second,
        "judge": ["gpt-x", "pair-v2"],
        "turn": 1,
        "tstamp": 1.0,
        **fields,
    }


@pytest.mark.parametrize(
    ("first", "second", "resolved"),
    [
        ("model_1", "model_1", "a"),
        ("model_2", "model_2", "b"),
        ("model_1", "model_2", "tie"),
        ("tie", "tie", "tie"),
        ("error", "model_1", "none"),
    ],
)
def test_pairwise_judgments_are_read(first: str, second: str, resolved: str, tmp_path: Path) -> None:
    folder = _bench(tmp_path / "bench")
    lines(folder / "model_judgment" / "gpt-x_pair.jsonl", [_judgment(first, second), _judgment(first, second, turn=2)])
    records = read_verdict_file(folder)
    assert [e.verdict for e in resolve(records)] == [resolved] * 2
    assert [(r.position, r.rater) for r in records] == [("a_first", "gpt-x"), ("b_first", "gpt-x")] * 2
    pairs = [*read_pairs([str(folder)]).pairs[:1], *read_pairs([str(folder)], turn=2).pairs]
    assert list(dict.fromkeys(r.item_id for r in records)) == [p.id for p in pairs]


def test_judgments_without_their_answers_have_readable_items(tmp_path: Path) -> None:
    (record, _) = read_verdict_file(lines(tmp_path / "pair.jsonl", [_judgment("tie", "tie")]))
    assert (record.item_id, record.length_a) == ("81 turn 1|m1|m2", None)


def test_votes_of_people_and_single_scores_are_read(tmp_path: Path) -> None:
    vote = {"question_id": 81, "model_a": "m1", "model_b": "m2", "winner": "model_b", "judge": "expert_3", "turn": 1}
    (person,) = read_verdict_file(lines(tmp_path / "people.jsonl", [{**vote, "tstamp": 1.0}]))
    assert (person.verdict, person.rater, person.rater_kind) == ("b", "expert_3", "human")

    def single(model: str, score: float) -> dict[str, Any]:
        return {
            "question_id": 81,
            "model": model,
            "score": score,
            "judge": ["gpt-x", "single-v1"],
            "turn": 1,
            "tstamp": 1,
        }

    rows = [single("m1", 7), single("m2", 7.1), single("m3", 9), single("m4", -1)]
    scored = read_verdict_file(lines(tmp_path / "single.jsonl", rows))
    assert {(v.model_a, v.model_b): v.verdict for v in scored} == {
        ("m1", "m2"): "tie", ("m1", "m3"): "b", ("m2", "m3"): "b",
        ("m1", "m4"): "none", ("m2", "m4"): "none", ("m3", "m4"): "none",
    }  # fmt: skip
    assert {v.rater for v in scored} == {"gpt-x single"}
    with pytest.raises(DataError, match="scored on this question in row 1"):
        read_verdict_file(lines(tmp_path / "single.jsonl", [single("m1", 7), single("m1", 8)]))
    with pytest.raises(DataError, match="field 'score'"):
        read_verdict_file(lines(tmp_path / "single.jsonl", [single("m1", float("nan"))]))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"g1_winner": "m1"}, "field 'g1_winner': is 'm1'"),
        ({"turn": 3}, "field 'turn'"),
        ({"judge": 3}, "field 'judge'"),
    ],
)
def test_judgments_that_cannot_be_read(fields: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        read_verdict_file(lines(tmp_path / "pair.jsonl", [_judgment("tie", "tie"), _judgment("tie", "tie", **fields)]))


def _judged(sources: list[str]) -> list[Verdict]:
    judge = FakeJudge(position_bias=1.5, none_share=0.2)
    return [v for j in judge_pairs(judge, read_pairs(sources).pairs) for v in verdicts_of(j, judge, "fake")]


def _runs(folder: Path) -> list[str]:
    samples = [(f"prompt {i}", f"{{0}} {i}") for i in range(20)]
    return [
        str(make_run(folder / name, {40: [(p, a.format(name)) for p, a in samples]})) for name in ("org--dpo", "rpo")
    ]


@pytest.mark.parametrize("form", ["alpaca-eval", "mt-bench"])
def test_ours_survives_the_way_there_and_back(form: str, tmp_path: Path) -> None:
    runs = _runs(tmp_path)
    verdicts = _judged(runs)
    write = write_alpaca_eval if form == "alpaca-eval" else write_mt_bench
    out = tmp_path / "out"
    done = write(out, read_answers(runs), verdicts)
    assert (done.verdicts, done.left_out) == (len(verdicts), 0)
    back = read_verdict_file(out / "annotations.json" if form == "alpaca-eval" else out)
    assert {e.item: e.verdict for e in resolve(back)} == {e.item: e.verdict for e in resolve(verdicts)}
    assert len({e.verdict for e in resolve(back)}) == 4  # wins of both, ties, none
    sources = [str(f) for f in sorted(out.glob("*/model_outputs.json"))] or [str(out)]
    assert {p.id for p in read_pairs(sources).pairs} == {v.item_id for v in verdicts}
    with pytest.raises(UsageError, match="exists; nothing was written"):
        write(out, read_answers(runs), verdicts)


def test_the_rows_are_those_that_the_other_programs_read(tmp_path: Path) -> None:
    runs = _runs(tmp_path)
    write_alpaca_eval(tmp_path / "alpaca", read_answers(runs), _judged(runs))
    (row, *_) = json.loads((tmp_path / "alpaca" / "annotations.json").read_text())
    assert {"instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator", "preference"} == set(row)
    (row, *_) = json.loads((tmp_path / "alpaca" / "rpo step 40" / "model_outputs.json").read_text())
    assert row == {"instruction": "prompt 0", "output": "rpo 0", "generator": "rpo step 40", "dataset": "safetyvalve"}
    write_mt_bench(tmp_path / "bench", read_answers(runs), _judged(runs))
    row = json.loads((tmp_path / "bench" / "model_judgment" / "safetyvalve_pair.jsonl").read_text().splitlines()[0])
    # FastChat's reader takes judge as a pair of names, and these fields without a default.
    assert len(row["judge"]) == 2
    assert {"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "g1_judgment", "g2_judgment"} <= set(row)


def test_what_the_forms_cannot_hold(tmp_path: Path) -> None:
    two = [str(make_run(tmp_path / n, {1: [("p", f"{n}1"), ("p", f"{n}2")]})) for n in "ab"]
    with pytest.raises(DataError, match="several answers"):
        write_alpaca_eval(tmp_path / "out", read_answers(two))
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rows = [{"prompt": turns, "responses": {"x": "1", "y": "2"}}]
    answers = read_answers([str(lines(tmp_path / "a.jsonl", rows))])
    with pytest.raises(DataError, match="one instruction"):
        write_alpaca_eval(tmp_path / "out", answers)
    with pytest.raises(DataError, match="turns system, user"):
        write_mt_bench(tmp_path / "out", answers)
    with pytest.raises(DataError, match=r"none of the .* verdicts belongs"):
        write_mt_bench(tmp_path / "out", read_answers(two), _judged(_runs(tmp_path / "other")))
    assert not (tmp_path / "out").exists()
