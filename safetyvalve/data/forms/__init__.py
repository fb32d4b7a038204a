"""How a row of each known form becomes an example, and how a form is recognised.

A form is a function from a row to an example. A row of the wrong shape raises :class:`DataError`: the file is
not what it was taken for. A row of the right shape whose content cannot teach anything raises :class:`Unusable`:
it is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable

from safetyvalve.data.forms.fields import Row, Unusable
from safetyvalve.data.forms.pairs import (
    explicit_pair,
    has_turns,
    implicit_pair,
    is_transcript_prompt,
    opens_transcript,
    parse_transcript,
    transcript_pair,
    ultrafeedback_pair,
)
from safetyvalve.data.forms.ranked import listed_comparisons, ranked_responses, raw_ultrafeedback, scored_responses
from safetyvalve.data.schema import PreferenceExample
from safetyvalve.errors import DataError

__all__ = ["FORMS", "Row", "Unusable", "parse_transcript", "recognise"]

FORMS: dict[str, Callable[[Row], PreferenceExample]] = {
    "pair": explicit_pair,
    "implicit": implicit_pair,
    "hh-transcript": transcript_pair,
    "ultrafeedback": ultrafeedback_pair,
    "ultrafeedback-raw": raw_ultrafeedback,
    "ranking": ranked_responses,
    "scores": scored_responses,
    "comparisons": listed_comparisons,
}
"""Forms by the name that ``--format`` accepts."""

_REFUSED: dict[frozenset[str], str] = {
    frozenset({"prompt", "completion", "label"}): (
        "TRL's unpaired preference: a label says whether one answer is good, not which of two is better, and a "
        "comparison made up from labels would carry a strength that nobody stated. Give pairs, or scored responses"
    ),
    frozenset({"completions", "labels"}): (
        "TRL's stepwise supervision, which labels steps of one answer. Give whole answers that were compared"
    ),
    frozenset({"prompt", "completion"}): (
        "one answer a prompt, without a comparison. Give two or more answers and which is better; or learn the answers "
        "with --objective sft"
    ),
    frozenset({"messages"}): (
        "conversations without a comparison. Give two or more last answers and which is better; or learn the last ones "
        "with --objective sft"
    ),
}


def recognise(row: Row) -> str:
    """The form of a row, from its fields that are not null.

    Raises:
        DataError: the row fits no known form, or one that is refused for a reason.
    """
    has = {name for name, value in row.items() if value is not None}
    if {"prompt", "responses"} <= has:
        for form, marks in _MARKS.items():
            if has & marks:
                return form
    if {"chosen", "rejected"} <= has:
        return _recognise_pair(row, has)
    if {"instruction", "completions"} <= has:
        return "ultrafeedback-raw"
    for fields, reason in _REFUSED.items():
        if fields <= has:
            raise DataError(f"has the fields {', '.join(map(repr, sorted(fields)))}: {reason}.")
    raise DataError(
        f"has the fields {', '.join(map(repr, row)) or '(none)'}, which is no known form; accepted: prompt + chosen + "
        "rejected, chosen + rejected as lists of messages or hh-rlhf transcripts, or prompt + responses + one of "
        "comparisons, ranking, ranks, scores. Rename the fields or convert the file."
    )


_MARKS = {"comparisons": {"comparisons"}, "ranking": {"ranking", "ranks"}, "scores": {"scores"}}
"""Fields beside prompt and responses that tell the form; the more direct statement comes first."""


def _recognise_pair(row: Row, has: set[str]) -> str:
    sides = [row["chosen"], row["rejected"]]
    if "prompt" in has:
        if {"score_chosen", "score_rejected"} <= has:
            return "ultrafeedback"
        # Taken for a pair, the turns would become the text of one turn.
        turns = is_transcript_prompt(row["prompt"]) or all(opens_transcript(side) for side in sides)
        return "hh-transcript" if turns else "pair"
    if all(isinstance(side, list) for side in sides):
        return "implicit"
    if all(has_turns(side) for side in sides):
        return "hh-transcript"
    raise DataError(
        "has chosen and rejected without a prompt, and they are neither both lists of messages nor both hh-rlhf "
        "transcripts: where the prompt ends could only be guessed from their common beginning. Add a prompt."
    )
