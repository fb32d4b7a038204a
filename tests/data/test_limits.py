"""What is cut and what is left out, with rows. The tokenizer's tokens are bytes, so lengths can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetyvalve.data import (
    Comparison,
    Loaded,
    Message,
    Place,
    PreferenceExample,
    Reading,
    Response,
    Tokenized,
    examine,
    load_demonstrations,
    load_preferences,
    refuse_dropped,
    tokenize_examples,
)
from safetyvalve.errors import DataError
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
FRAME = 19
"""Tokens of the template around a user's turn, and of the answer's opening."""


def example(*answers: str, turns: tuple[tuple[str, str], ...] = (("user", "Hi"),), row: int = 1) -> PreferenceExample:
    return PreferenceExample(
        prompt=tuple(Message(role=role, content=content) for role, content in turns),  # type: ignore[arg-type]
        responses=tuple(Response(content=a) for a in answers),
        comparisons=(Comparison(winner=0, loser=1),),
        place=Place("d.jsonl", row),
    )


def tokenized(*examples: PreferenceExample, limit: int, on_long: str = "truncate") -> Tokenized:
    return tokenize_examples(examples, TOKENIZER, max_length=limit, on_long=on_long)


def test_length_of_the_frame() -> None:
    assert len(tokenized(example("a", "b"), limit=99).examples[0].prompt_ids) == FRAME + 2


@pytest.mark.parametrize(("limit", "kept"), [(FRAME + 2 + 6, 1), (FRAME + 2 + 5, 0)])
def test_the_limit_is_the_last_length_that_fits(limit: int, kept: int) -> None:
    done = tokenized(example("12345", "b"), limit=limit, on_long="drop")
    assert len(done.examples) == kept
    assert [(d.row, d.reason) for d in done.dropped] == ([] if kept else [(1, "longer than --max-length")])


def test_error_names_the_first_row_and_counts_the_others() -> None:
    rows = [example("a", "b", row=1), example("c" * 50, "d", row=2), example("e", "f" * 50, row=3)]
    with pytest.raises(DataError, match=r"^d\.jsonl:2: has 72 tokens.*and 1 more rows.*--max-length 60.*--on-long"):
        tokenized(*rows, limit=60, on_long="error")


def test_a_cut_response_gets_no_end_token_and_says_so() -> None:
    done = tokenized(example("x" * 50, "no"), limit=FRAME + 2 + 10)
    (tokens,) = done.examples
    assert TOKENIZER.decode(tokens.response_ids[0]) == "x" * 10
    assert TOKENIZER.decode(tokens.response_ids[1]) == "no<|im_end|>"
    assert tokens.complete == (False, True)
    assert tokens.longest == FRAME + 12
    (row,) = done.truncated
    assert (row.file, row.row, row.turns, row.cut, row.before, row.after) == (
        "d.jsonl",
        1,
        0,
        [0],
        FRAME + 53,
        FRAME + 12,
    )
    assert tokens.id == example("x" * 50, "no").id


TALK = (
    ("system", "規則"),
    ("user", "一" * 10),
    ("assistant", "二" * 10),
    ("user", "三" * 10),
    ("assistant", "四" * 10),
    ("user", "五"),
)


def test_a_prompt_loses_whole_oldest_turns_for_all_responses_alike() -> None:
    whole = example("はい", "いいえ、ちがいます", turns=TALK)
    length = tokenized(whole, limit=10_000).examples[0].longest
    done = tokenized(whole, limit=length - 1)
    prompt = TOKENIZER.decode(done.examples[0].prompt_ids)
    assert "規則" in prompt
    assert "一" not in prompt
    assert "二" not in prompt
    assert "三" * 10 in prompt
    assert done.examples[0].complete == (True, True)
    assert (done.truncated[0].turns, done.truncated[0].cut) == (2, [])


def test_system_and_last_turn_stay_and_responses_are_cut_last() -> None:
    done = tokenized(example("はい" * 20, "いいえ", turns=TALK), limit=90)
    prompt = TOKENIZER.decode(done.examples[0].prompt_ids)
    assert "規則" in prompt
    assert "五" in prompt
    assert "三" not in prompt
    assert (done.truncated[0].turns, done.truncated[0].cut) == (4, [0])
    assert done.examples[0].longest == 90


def test_what_cannot_be_told_apart_any_more_is_left_out() -> None:
    done = tokenized(example("x" * 50 + "a", "x" * 50 + "b"), limit=60)
    assert done.examples == []
    assert [d.reason for d in done.dropped] == ["compared responses are equal once they are cut to --max-length"]
    done = tokenized(example("a", "b", turns=(("user", "u" * 100),)), limit=60)
    assert [d.reason for d in done.dropped] == [
        "last turn of the prompt leaves no room for a response within --max-length"
    ]


def test_special_tokens_are_a_counted_drop_in_every_mode(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    rows = [{"prompt": f"Q{i}", "chosen": "はい", "rejected": "いいえ"} for i in range(10)]
    rows[3]["rejected"] = "forged<|im_end|>"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    loaded = load_preferences(file)
    done = tokenize_examples(loaded.examples, TOKENIZER, on_long="error")
    report = examine(loaded, Reading("tiny", TOKENIZER, None, "error", done))
    assert (report.rows, report.kept, report.comparisons, len(done.examples)) == (10, 9, 9, 9)
    assert [(d.file, d.row, d.value) for d in report.dropped] == [(str(file), 4, "'<|im_end|>'")]
    with pytest.raises(DataError, match=r"d\.jsonl:4: 1 of 10 rows .*10\.0%; contains a special token"):
        refuse_dropped(report, 0.05)
    refuse_dropped(report, 0.1)


def test_drops_of_all_kinds_count_together(tmp_path: Path) -> None:
    """One empty answer, one special token and two long rows of 40: each alone is under 6%, together they are 10%."""
    file = tmp_path / "d.jsonl"
    rows = [{"prompt": f"Q{i}", "chosen": "yes", "rejected": "no"} for i in range(40)]
    rows[0]["rejected"] = " "
    rows[1]["chosen"] = "<|im_start|>"
    rows[2]["chosen"] = rows[3]["chosen"] = "y" * 90
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    loaded = load_preferences(file, max_drop=0.06)
    done = tokenize_examples(loaded.examples, TOKENIZER, max_length=80, on_long="drop")
    report = examine(loaded, Reading("tiny", TOKENIZER, 80, "drop", done))
    assert report.kept == 36
    with pytest.raises(DataError, match=r"d\.jsonl:3: 4 of 40 rows .*longer than --max-length: 2, such as 112 tokens"):
        refuse_dropped(report, 0.06)


def test_truncation_is_no_drop(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps({"prompt": "Q", "chosen": "y" * 90, "rejected": "no"}) + "\n")
    loaded = load_preferences(file)
    done = tokenize_examples(loaded.examples, TOKENIZER, max_length=80, on_long="truncate")
    report = examine(loaded, Reading("tiny", TOKENIZER, 80, "truncate", done))
    assert (report.kept, report.dropped) == (1, [])
    assert report.tokens is not None
    assert [t.row for t in report.tokens.truncated] == [1]
    (preview,) = report.tokens.previews
    chosen = preview.parts[1]
    assert (chosen.complete, chosen.last[-1].end, chosen.mask) == (False, False, 1)
    assert "(cut, no end token)" in "\n".join(report.lines())


def test_drops_among_chosen_examples_are_not_thinned_by_the_rest(tmp_path: Path) -> None:
    """Of 40 rows 2 cannot be read, 10 are chosen and 3 of these are too long: 5% and 30% of the other 95%."""
    file = tmp_path / "d.jsonl"
    rows = [{"prompt": f"Q{i}", "chosen": "yes", "rejected": "no"} for i in range(40)]
    rows[38]["rejected"] = rows[39]["rejected"] = " "
    for row in rows[:3]:
        row["chosen"] = "y" * 90
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    loaded = load_preferences(file, max_drop=0.05)
    loaded = Loaded(loaded.examples[:10], loaded.report.model_copy(update={"chosen": 10}))
    done = tokenize_examples(loaded.examples, TOKENIZER, max_length=80, on_long="drop")
    report = examine(loaded, Reading("tiny", TOKENIZER, 80, "drop", done))
    assert report.dropped_share == pytest.approx(0.05 + 0.95 * 0.3)
    assert (report.kept, report.comparisons) == (35, 7)
    with pytest.raises(DataError, match=r"5 of 40 rows would be dropped \(33\.5% by the 10 that were chosen; longer"):
        refuse_dropped(report, 0.3)


def test_a_special_token_in_the_baseline_column_drops_the_row(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    row = {"prompt": "Q", "chosen": "yes", "rejected": "no"}
    file.write_text("".join(json.dumps(row | {"own": text}) + "\n" for text in ("fine", "<|im_end|>")))
    done = tokenize_examples(load_preferences(file, baseline_column="own").examples, TOKENIZER)
    assert [e.place.row for e in done.kept if e.place] == [1]
    assert [d.row for d in done.dropped] == [2]


def test_demonstrations(tmp_path: Path) -> None:
    """Nothing is compared: responses have one histogram, and the preview shows one, cut where one is cut."""
    file = tmp_path / "d.jsonl"
    rows = [{"prompt": "質問", "completion": "はい"}, {"prompt": "Q", "responses": ["a", "b" * 90]}]
    rows += [{"prompt": "Q", "completion": "c"}, {"prompt": "R", "completion": "<|im_end|>"}]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    loaded = load_demonstrations(file)
    done = tokenize_examples(loaded.examples, TOKENIZER, max_length=80, on_long="truncate")
    report = examine(loaded, Reading("tiny", TOKENIZER, 80, "truncate", done))
    assert [(d.file, d.row) for d in report.dropped] == [(str(file), 4)]
    assert (report.rows, report.kept, report.comparisons) == (4, 3, 0)
    assert report.lengths is not None
    assert report.lengths.summary["response"].count == 4
    assert report.tokens is not None
    assert [(t.row, t.cut) for t in report.tokens.truncated] == [(2, [1])]
    assert [[part.name for part in p.parts] for p in report.tokens.previews] == [["prompt", "response"]] * 2
    assert [p.parts[1].complete for p in report.tokens.previews] == [True, False]
    assert "cannot be estimated" in "\n".join(report.lines())
