"""The identity of an example, which caches and splits of earlier runs rely on."""

from __future__ import annotations

from safetyvalve.data import Comparison, Message, Place, PreferenceExample, Response

EXAMPLE = PreferenceExample(
    prompt=(Message(role="user", content="質問です。"),),
    responses=(Response(content="はい。"), Response(content="いいえ。"), Response(content="たぶん。")),
    comparisons=(Comparison(winner=0, loser=1), Comparison(winner=2, loser=1, weight=0.5)),
)


def test_id_is_pinned() -> None:
    assert EXAMPLE.id == "5708860226c4ed5b"


def test_id_leaves_out_annotator_baseline_and_place() -> None:
    annotated = tuple(c.model_copy(update={"annotator": "田中"}) for c in EXAMPLE.comparisons)
    other = PreferenceExample(
        prompt=EXAMPLE.prompt,
        responses=EXAMPLE.responses,
        comparisons=annotated,
        baseline=(Response(content="基準"),),
        place=Place("file.jsonl", 3),
    )
    assert other.id == EXAMPLE.id
    assert "place" not in other.model_dump()


def test_id_covers_the_weight() -> None:
    heavier = tuple(c.model_copy(update={"weight": 2.0}) for c in EXAMPLE.comparisons)
    changed = PreferenceExample(prompt=EXAMPLE.prompt, responses=EXAMPLE.responses, comparisons=heavier)
    assert changed.id != EXAMPLE.id
