"""Two responses a row: one chosen, one rejected."""

from __future__ import annotations

import re

from safetyvalve.data.forms.fields import (
    Row,
    Unusable,
    annotator,
    build_pair,
    conversation,
    messages,
    number,
    present,
    text,
)
from safetyvalve.data.schema import Message, PreferenceExample, Prompt, Role
from safetyvalve.errors import DataError, shorten

__all__ = [
    "explicit_pair",
    "has_turns",
    "implicit_pair",
    "is_transcript_prompt",
    "opens_transcript",
    "parse_transcript",
    "transcript_pair",
    "ultrafeedback_pair",
]

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def explicit_pair(row: Row) -> PreferenceExample:
    """``{"prompt", "chosen", "rejected"}``, each a text or a list of messages.

    A list under chosen or rejected must be one assistant message, or the prompt followed by one.
    """
    prompt = messages(present(row, "prompt"), "prompt")
    return build_pair(
        prompt, _answer(row, "chosen", prompt), _answer(row, "rejected", prompt), annotator=annotator(row)
    )


def _answer(row: Row, field: str, prompt: Prompt) -> str:
    value = present(row, field)
    if isinstance(value, str):
        return value
    turns = messages(value, field)
    if turns[-1].role != "assistant" or (len(turns) > 1 and turns[:-1] != prompt):
        raise DataError(
            f"is a list of {len(turns)} messages ending with role '{turns[-1].role}'; accepted: one assistant "
            "message, or the prompt's messages followed by one. If the prompt is to be taken from these lists, use "
            "--format implicit.",
            field=field,
        )
    return turns[-1].content


def implicit_pair(row: Row) -> PreferenceExample:
    """``{"chosen", "rejected"}``: two lists of messages that differ in the last one, the assistant's.

    The prompt is every turn before the last one. Turns that differ earlier drop the row: where such conversations
    part is no choice of one answer, and a common beginning of texts is never searched for.
    """
    chosen_prompt, chosen = conversation(row, "chosen")
    rejected_prompt, rejected = conversation(row, "rejected")
    if chosen_prompt != rejected_prompt:
        raise Unusable("prompts of chosen and rejected differ", rejected_prompt[-1].content)
    return build_pair(chosen_prompt, chosen, rejected, annotator=annotator(row))


def ultrafeedback_pair(row: Row) -> PreferenceExample:
    """``{"prompt", "chosen", "rejected", "score_chosen", "score_rejected"}`` as in UltraFeedback-binarized.

    The prompt is a text; chosen and rejected are lists of messages whose first user turn it is, or texts. A pair
    whose scores are tied, or contradict it, is dropped.
    """
    chosen_score, rejected_score = (number(present(row, f), f) for f in ("score_chosen", "score_rejected"))
    if chosen_score <= rejected_score:
        reason = "scores are tied" if chosen_score == rejected_score else "rejected has the higher score"
        raise Unusable(reason, (chosen_score, rejected_score))
    if all(isinstance(row.get(side), str) for side in ("chosen", "rejected")):
        return explicit_pair(row)
    opening = text(row, "prompt").strip()
    for side in ("chosen", "rejected"):
        turns, _ = conversation(row, side)
        first = next((m.content for m in turns if m.role == "user"), "")
        if first.strip() != opening:
            raise Unusable(f"{side} does not begin with the prompt", first)
    return implicit_pair(row)


def transcript_pair(row: Row) -> PreferenceExample:
    """``{"chosen", "rejected"}``: two whole conversations as in hh-rlhf, split at the last Assistant turn.

    With a ``prompt`` that ends with ``\\n\\nAssistant:``, they may be what follows it.
    """
    opening = row["prompt"] if is_transcript_prompt(row.get("prompt")) else ""
    sides = []
    for side in ("chosen", "rejected"):
        whole = text(row, side)
        if not opens_transcript(whole):
            whole = opening + whole
        names = [m[1] for m in _TURN.finditer("\n\n" + whole.lstrip("\n"))]
        if not whole.strip():
            raise Unusable(f"{side} is empty", whole)
        if names and names[-1] == "Human":
            raise Unusable(f"{side} ends with the human's turn", whole[-80:])
        sides.append(parse_transcript(whole, side))
    (chosen_prompt, chosen), (rejected_prompt, rejected) = sides
    if chosen_prompt != rejected_prompt:
        raise Unusable("prompts of chosen and rejected differ", rejected_prompt[-1].content)
    return build_pair(chosen_prompt, chosen, rejected, annotator=annotator(row))


def parse_transcript(text: str, field: str = "transcript") -> tuple[Prompt, str]:
    """Split ``\\n\\nHuman: ...\\n\\nAssistant: ...`` into the turns before the last Assistant turn and that turn.

    Raises:
        DataError: the text does not begin with a turn or has no Assistant turn to split at.
    """
    parts = _TURN.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip("\n"))
    if len(parts) < 5 or parts[0].strip() or parts[-2] != "Assistant":
        raise DataError(
            f"is {shorten(text)}; accepted: turns opened by '\\n\\nHuman:' and '\\n\\nAssistant:', the first Human's "
            "and the last Assistant's.",
            field=field,
        )
    names, contents = parts[1::2], parts[2::2]
    turns = [Message(role=_ROLES[n], content=c.strip()) for n, c in zip(names, contents, strict=True)]
    return tuple(turns[:-1]), contents[-1]


def has_turns(value: object) -> bool:
    """Whether a value is a text that opens with, or holds, a turn of a transcript."""
    return isinstance(value, str) and _TURN.search("\n\n" + value.lstrip("\n")) is not None


def opens_transcript(value: object) -> bool:
    """Whether a value is a text that begins as hh-rlhf's conversations do."""
    return isinstance(value, str) and value.startswith("\n\nHuman:")


def is_transcript_prompt(value: object) -> bool:
    """Whether a value is a text of turns that ends where the Assistant is to answer."""
    return has_turns(value) and str(value).rstrip().endswith("\n\nAssistant:")
