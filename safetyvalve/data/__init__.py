"""Preference data: schema, forms, sources, loading, splits, chat rendering and tokenizing, and the data report."""

from safetyvalve.data.coverage import Encoded, Encoder, PromptCoverage, prompt_coverage
from safetyvalve.data.demonstrations import (
    DEMONSTRATION_FORMS,
    Demonstration,
    holds_demonstrations,
    load_demonstrations,
)
from safetyvalve.data.forms import FORMS, parse_transcript
from safetyvalve.data.limits import Tokenized, refuse_long, tokenize_examples
from safetyvalve.data.loading import load_preferences
from safetyvalve.data.report import (
    DataReport,
    DroppedRow,
    Loaded,
    Reading,
    TruncatedRow,
    examine,
    refuse_dropped,
    with_dropped,
)
from safetyvalve.data.saving import save_preferences
from safetyvalve.data.schema import Comparison, Message, Place, PreferenceExample, Prompt, Response, response_id
from safetyvalve.data.serving import ServingPrompt, load_serving_prompts
from safetyvalve.data.splits import Split, choose_examples, opening_turn, split_by_opening
from safetyvalve.data.tokenizing import TokenizedExample, render_prompt, tokenize_answers, tokenize_example

__all__ = [
    "DEMONSTRATION_FORMS",
    "FORMS",
    "Comparison",
    "DataReport",
    "Demonstration",
    "DroppedRow",
    "Encoded",
    "Encoder",
    "Loaded",
    "Message",
    "Place",
    "PreferenceExample",
    "Prompt",
    "PromptCoverage",
    "Reading",
    "Response",
    "ServingPrompt",
    "Split",
    "Tokenized",
    "TokenizedExample",
    "TruncatedRow",
    "choose_examples",
    "examine",
    "holds_demonstrations",
    "load_demonstrations",
    "load_preferences",
    "load_serving_prompts",
    "opening_turn",
    "parse_transcript",
    "prompt_coverage",
    "refuse_dropped",
    "refuse_long",
    "render_prompt",
    "response_id",
    "save_preferences",
    "split_by_opening",
    "tokenize_answers",
    "tokenize_example",
    "tokenize_examples",
    "with_dropped",
]
