"""K responses a row: ranked, scored, or compared one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from pydantic import ValidationError

from safetyvalve.data.forms.fields import Row, Unusable, annotator, build, messages, number, present, text
from safetyvalve.data.schema import Comparison, PreferenceExample
from safetyvalve.errors import DataError, shorten

__all__ = ["listed_comparisons", "ranked_responses", "raw_ultrafeedback", "scored_responses"]


class _Responses(NamedTuple):
    texts: list[str]
    names: list[str | int]
    """What a ranking or a comparison calls each: its ``id``, or its index where the responses are texts."""

    def position(self, name: Any, field: str) -> int:
        for index, known in enumerate(self.names):
            if type(known) is type(name) and known == name:
                return index
        raise DataError(
            f"names a response that is not there: {shorten(name)}; the responses are "
            f"{shorten(', '.join(map(repr, self.names)))}. Correct the name, or add the response.",
            field=field,
        )


def listed_comparisons(row: Row) -> PreferenceExample:
    """``{"prompt", "responses", "comparisons": [{"winner", "loser", "weight"?, "annotator"?}]}``.

    Responses are texts, which comparisons name by index from 0, or objects ``{"id", "text"}``, named by id.
    """
    prompt, responses = messages(present(row, "prompt"), "prompt"), _responses(row)
    listed = present(row, "comparisons")
    if not isinstance(listed, list):
        raise DataError(
            f"is {shorten(listed)}; a list of objects with winner and loser is accepted.", field="comparisons"
        )
    return build(prompt, responses.texts, [_comparison(c, i, responses) for i, c in enumerate(listed)])


def _comparison(value: Any, index: int, responses: _Responses) -> Comparison:
    field = f"comparisons.{index}"
    if not isinstance(value, Mapping):
        raise DataError(f"is {shorten(value)}; an object with winner and loser is accepted.", field=field)
    content = {key: v for key, v in value.items() if v is not None}
    for side in ("winner", "loser"):
        if side not in content:
            raise DataError(f"is missing in {shorten(dict(value))}. Name the response.", field=f"{field}.{side}")
        content[side] = responses.position(content[side], f"{field}.{side}")
    content["annotator"] = annotator(content)
    if content["winner"] == content["loser"]:
        raise DataError(f"compares a response with itself: {shorten(dict(value))}. Name two responses.", field=field)
    try:
        return Comparison.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"is {shorten(first['input'])}: {first['msg']}. Accepted: winner, loser, a weight above 0, an annotator.",
            field=".".join(map(str, (field, *first["loc"]))),
        ) from None


def ranked_responses(row: Row) -> PreferenceExample:
    """``{"prompt", "responses"}`` with ``ranking`` or ``ranks``.

    ``ranking`` names the responses from best to worst, ties as a list inside: ``[2, [0, 1]]``, or ids. ``ranks``
    holds one rank a response, 1 is best, equal ranks are ties. They are two fields because ``[2, 0, 1]`` means
    another order under each. Every better response beats every worse one; the tied are not compared.
    """
    prompt, responses = messages(present(row, "prompt"), "prompt"), _responses(row)
    if row.get("ranking") is not None and row.get("ranks") is not None:
        raise DataError("stands beside 'ranks'; one of the two is accepted. Remove one.", field="ranking")
    levels = (
        _levels_of_ranks(present(row, "ranks"), len(responses.texts))
        if row.get("ranks") is not None
        else _levels_of_order(present(row, "ranking"), responses)
    )
    return build(prompt, responses.texts, _between(levels, annotator(row)))


def _levels_of_order(order: Any, responses: _Responses) -> list[list[int]]:
    if not isinstance(order, list):
        raise DataError(f"is {shorten(order)}; a list of responses from best to worst is accepted.", field="ranking")
    levels = [
        [responses.position(name, "ranking") for name in (level if isinstance(level, list) else [level])]
        for level in order
    ]
    named = [index for level in levels for index in level]
    for index, name in enumerate(responses.names):
        if named.count(index) != 1:
            raise DataError(
                f"is {shorten(order)}, which has response {name!r} {named.count(index)} times; each response once is "
                "accepted, ties as a list inside the list.",
                field="ranking",
            )
    return [level for level in levels if level]


def _levels_of_ranks(ranks: Any, count: int) -> list[list[int]]:
    if not isinstance(ranks, list) or len(ranks) != count:
        raise DataError(f"is {shorten(ranks)}; a list of {count} ranks, one a response, is accepted.", field="ranks")
    values = [number(rank, f"ranks[{i}]") for i, rank in enumerate(ranks)]
    if set(values) != set(range(1, len(set(values)) + 1)):
        raise DataError(
            f"is {shorten(ranks)}, which has a gap or does not begin with 1; accepted: 1 for the best, then every "
            "whole number, ties by equal ranks, such as [1, 2, 2, 3].",
            field="ranks",
        )
    return _grouped(values, best_first=sorted(set(values)))


def scored_responses(row: Row) -> PreferenceExample:
    """``{"prompt", "responses", "scores"}``: of two responses the one with the higher score won; ties give none."""
    prompt, responses = messages(present(row, "prompt"), "prompt"), _responses(row)
    scores = present(row, "scores")
    if not isinstance(scores, list) or len(scores) != len(responses.texts):
        raise DataError(
            f"is {shorten(scores)}; a list of {len(responses.texts)} numbers, one a response, is accepted.",
            field="scores",
        )
    return build(prompt, responses.texts, _by_score([number(s, f"scores[{i}]") for i, s in enumerate(scores)], row))


def raw_ultrafeedback(row: Row) -> PreferenceExample:
    """``{"instruction", "completions": [{"response", "overall_score"}]}`` as in UltraFeedback: K scored responses."""
    completions = present(row, "completions")
    if not isinstance(completions, list) or not all(isinstance(c, Mapping) for c in completions):
        raise DataError(f"is {shorten(completions)}; a list of objects is accepted.", field="completions")
    texts = [text(c, "response") for c in completions]
    scores = [number(present(c, "overall_score"), f"completions[{i}].overall_score") for i, c in enumerate(completions)]
    return build(messages(text(row, "instruction"), "instruction"), texts, _by_score(scores, row))


def _by_score(scores: Sequence[float], row: Row) -> list[Comparison]:
    return _between(_grouped(scores, best_first=sorted(set(scores), reverse=True)), annotator(row))


def _grouped(values: Sequence[float], *, best_first: Sequence[float]) -> list[list[int]]:
    return [[i for i, v in enumerate(values) if v == value] for value in best_first]


def _between(levels: Sequence[Sequence[int]], annotator: str | None) -> list[Comparison]:
    if len(levels) == 1 and len(levels[0]) > 1:
        raise Unusable("all responses are tied", list(levels[0]))
    return [
        Comparison(winner=winner, loser=loser, annotator=annotator)
        for better, worse in combinations(levels, 2)
        for winner in better
        for loser in worse
    ]


def _responses(row: Row) -> _Responses:
    value = present(row, "responses")
    if isinstance(value, list) and all(isinstance(r, str) for r in value):
        return _Responses(value, list(range(len(value))))
    if not isinstance(value, list) or not all(isinstance(r, Mapping) for r in value):
        raise DataError(
            f"is {shorten(value)}; a list of texts, or of objects with id and text, is accepted.", field="responses"
        )
    texts, names = [], []
    for index, response in enumerate(value):
        name, content = response.get("id"), response.get("text")
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not isinstance(content, str):
            raise DataError(
                f"is {shorten(dict(response))}; an object with id and text is accepted.", field=f"responses[{index}]"
            )
        if name in names:
            raise DataError(
                f"has the id {name!r}, which another response of this row has too. Give each its own.",
                field=f"responses[{index}]",
            )
        texts.append(content)
        names.append(name)
    return _Responses(texts, names)
