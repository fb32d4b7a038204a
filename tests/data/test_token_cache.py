"""Tokens from disk are those that tokenizing gives, and other texts or another tokenizer are never taken for them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from safetyvalve.data import Message, PreferenceExample, load_preferences, tokenize_example, tokenize_examples
from safetyvalve.data import tokenizing as tokenizing_module
from safetyvalve.data.schema import Comparison, Place, Response
from safetyvalve.data.tokenizing import render_prompt, tokenize_answers, tokenize_many
from safetyvalve.errors import DataError
from safetyvalve.models import load_tokenizer
from tests.tiny import tiny_tokenizer

HH = next(
    (
        file
        for folder in Path(__file__).resolve().parents
        if (file := folder / "shared" / "data" / "hh-harmless-test.jsonl.gz").exists()
    ),
    Path("missing"),
)


def example(number: int) -> PreferenceExample:
    return PreferenceExample(
        prompt=(Message(role="user", content=f"question {number}"),),
        responses=tuple(Response(content=c * (number + 1)) for c in "abc"),
        comparisons=(Comparison(winner=0, loser=1), Comparison(winner=2, loser=1)),
    )


EXAMPLES = [example(i) for i in range(5)]


def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call encoded."""
    calls: list[int] = []
    plain = tokenizing_module._encode
    monkeypatch.setattr(tokenizing_module, "_encode", lambda texts, t: calls.append(len(texts)) or plain(texts, t))
    return calls


def test_many_are_as_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing_module, "_TOGETHER", 2)
    tokenizer = tiny_tokenizer()
    assert tokenize_examples(EXAMPLES, tokenizer).examples == [tokenize_example(e, tokenizer) for e in EXAMPLES]


@pytest.mark.parametrize("file", ["plain", "cuts", "fills up"])
def test_ids_are_those_of_the_tokenizer_itself(file: str) -> None:
    """Also where its file has it cut every text or fill it up, which the tokenizer's own call undoes."""
    tokenizer = tiny_tokenizer()
    if file == "cuts":
        tokenizer.backend_tokenizer.enable_truncation(3)
    elif file == "fills up":
        tokenizer.backend_tokenizer.enable_padding(length=500)
    (tokens,) = tokenize_examples(EXAMPLES[4:], tokenizer).examples
    prompt = render_prompt(EXAMPLES[4].prompt, tokenizer)
    texts = [prompt, *(f"{r.content}{tokenizer.eos_token}" for r in EXAMPLES[4].responses)]
    expected = tiny_tokenizer()(texts, add_special_tokens=False)["input_ids"]
    assert [list(ids) for ids in (tokens.prompt_ids, *tokens.response_ids)] == expected


def test_no_answers() -> None:
    tokenizer = tiny_tokenizer()
    prompt_ids, answers = tokenize_answers(EXAMPLES[0].prompt, [], tokenizer)
    assert (prompt_ids, answers) == (tokenize_example(EXAMPLES[0], tokenizer).prompt_ids, ())


@pytest.mark.parametrize("at", [0, 3, 4])
def test_the_row_at_fault_is_named(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever part it is in, and whatever stands before it there."""
    monkeypatch.setattr(tokenizing_module, "_TOGETHER", 2)
    rows = [e.model_copy(update={"place": Place(file="rows.jsonl", row=i + 1)}) for i, e in enumerate(EXAMPLES)]
    wrong = (Message(role="user", content="question <|im_end|>"),)
    rows[at] = rows[at].model_copy(update={"prompt": wrong})
    with pytest.raises(DataError, match=rf"rows.jsonl.*{at + 1}.*special token"):
        tokenize_many(rows, tiny_tokenizer())


def test_second_time_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = encoded(monkeypatch)
    first, again = (tokenize_examples(EXAMPLES, tiny_tokenizer(), cache_folder=tmp_path) for _ in range(2))
    assert first == again
    assert calls == [5 * 4]


def test_a_limit_is_applied_to_what_is_kept(tmp_path: Path) -> None:
    """Whole examples are kept: another limit needs no other entry."""
    tokenizer = tiny_tokenizer()
    for limit in (None, 90):
        given = {"max_length": limit, "on_long": "truncate"}
        kept = tokenize_examples(EXAMPLES, tokenizer, cache_folder=tmp_path, **given)
        assert kept == tokenize_examples(EXAMPLES, tokenizer, **given)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_changes_tokens_is_tokenized_again(tmp_path: Path) -> None:
    changed = tiny_tokenizer()
    changed.chat_template = changed.chat_template.replace("<|im_end|>\n", "<|im_end|>\n\n")
    larger = tiny_tokenizer()
    larger.add_tokens(["question"])
    for data, tokenizer in (
        (EXAMPLES, tiny_tokenizer()),
        (EXAMPLES[::-1], tiny_tokenizer()),
        (EXAMPLES[:4], tiny_tokenizer()),
        (EXAMPLES, changed),
        (EXAMPLES, larger),
    ):
        kept = tokenize_examples(data, tokenizer, cache_folder=tmp_path)
        assert kept == tokenize_examples(data, tokenizer)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    first = tokenize_examples(EXAMPLES, tiny_tokenizer(), cache_folder=tmp_path)
    (entry,) = tmp_path.iterdir()
    for damaged in (entry.read_bytes()[:100], b"", b"PK\x03\x04 nothing"):
        entry.write_bytes(damaged)
        assert tokenize_examples(EXAMPLES, tiny_tokenizer(), cache_folder=tmp_path) == first


@pytest.mark.slow
@pytest.mark.skipif(not HH.exists(), reason="the real preference data is not here")
def test_a_hundred_thousand_pairs_take_a_minute_of_two_cores() -> None:
    """In processor time of 1,000 real pairs, which other work on the machine changes least: 120 s of it."""
    examples, tokenizer = load_preferences(HH).examples[:1000], load_tokenizer("smollm2-135m")
    tokenize_examples(examples[:10], tokenizer)
    begun = time.process_time()
    tokenize_examples(examples, tokenizer)
    assert (time.process_time() - begun) * 100 < 120
