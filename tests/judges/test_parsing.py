"""Strict parsing: the right choice or the right reason, never a guess."""

from __future__ import annotations

import pytest

from safetyvalve.judges.parsing import CAUSES, parse_reply


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Better.\nVERDICT: 1", "first"),
        ("VERDICT: 2\n\n", "second"),
        ("**Verdict: TIE**", "tie"),
        ("x\nverdict: both bad.", "both_bad"),
        ("x\nVERDICT: BOTH_BAD", "both_bad"),
        ("理由です。\n判定: 引き分け", "tie"),
        ("理由です。\n判定:2", "second"),
        ("判定: 両方不可。", "both_bad"),
        ("<think>VERDICT: 1</think>\nNo.\nVERDICT: 2", "second"),
        ("VERDICT: 1 perhaps\n</think>\nVERDICT: 2", "second"),
        ("VERDICT: 1\nOnce more:\nVERDICT: 1", "first"),
    ],
)
def test_verdicts(text: str, choice: str) -> None:
    assert parse_reply(text) == (choice, None)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "empty reply"),
        (None, "empty reply"),
        ("<think>hm</think>\n ", "empty reply"),
        ("Answer 1 is better.", "not parsable"),
        ("I would say VERDICT: 1", "not parsable"),
        ("VERDICT: 3", "not parsable"),
        ("VERDICT: 1 or 2", "not parsable"),
        ("VERDICT: 1\nVERDICT: 2", "contradictory"),
        ("VERDICT: 1\nBut who knows.", "verdict not last"),
        ("<think>\nVERDICT: 1", "empty reply"),
    ],
)
def test_no_verdict(text: str | None, cause: str) -> None:
    assert parse_reply(text) == ("none", cause)
    assert cause in CAUSES


def test_what_the_server_says_counts_more_than_the_text() -> None:
    assert parse_reply("VERDICT: 1", finish_reason="length") == ("none", "cut off")
    assert parse_reply("VERDICT: 1", finish_reason="content_filter") == ("none", "refused")
    assert parse_reply(None, refusal="I cannot.") == ("none", "refused")
