"""Preference data: schema, forms, sources, loading, splits, chat rendering and tokenizing."""

from safetyvalve.data.demonstrations import (
    DEMONSTRATION_FORMS,
    Demonstration,
    holds_demonstrations,
    load_demonstrations,
)
from safetyvalve.data.forms import FORMS, parse_transcript
from safetyvalve.data.loading import load_preferences
from safetyvalve.data.report import DataReport, DroppedRow, Loaded
from safetyvalve.data.saving import save_preferences
from safetyvalve.data.schema import Comparison, Message, Place, PreferenceExample, Prompt, Response
from safetyvalve.data.splits import Split, choose_examples, opening_turn, split_by_opening
from safetyvalve.data.tokenizing import TokenizedExample, render_prompt, tokenize_example, tokenize_examples

__all__ = [
    "DEMONSTRATION_FORMS",
    "FORMS",
    "Comparison",
    "DataReport",
    "Demonstration",
    "DroppedRow",
    "Loaded",
    "Message",
    "Place",
    "PreferenceExample",
    "Prompt",
    "Response",
    "Split",
    "TokenizedExample",
    "choose_examples",
    "holds_demonstrations",
    "load_demonstrations",
    "load_preferences",
    "opening_turn",
    "parse_transcript",
    "render_prompt",
    "save_preferences",
    "split_by_opening",
    "tokenize_example",
    "tokenize_examples",
]
