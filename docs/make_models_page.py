"""Write docs/models.md from the architectures that the tests hold; a test says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from safetyvalve.trees.support import refusal
from tests.families import HELD, REFUSED, Family
from tests.tiny import tiny_model

PAGE = Path(__file__).with_name("models.md")

_TOP = """# Models

Written by `python docs/make_models_page.py` from `tests/families.py`. Any causal language model of `transformers` can
be trained. The shared-prefix forward (each prompt computed once for all its responses) is taken where it is exact:

- `--engine auto` (default) compares it with the model's own forward on the shortest, the median and the longest
  example before anything is trained, takes it where no token differs by more than 1e-4 nats (0.1 for bf16 weights),
  and otherwise takes the plain forward and says why.
- `--engine tree` raises instead. `--engine padded` takes the plain forward unasked.

## Held exact

A tiny random model of each architecture is compared in the test suite (`tests/trees/test_parity.py`), on prompts of 1
to 40 tokens with 1 to 16 responses of 1 to 30 tokens: log-probabilities per token within 1e-5 nats and gradients
within 1e-5 of the largest, in fp32; in bf16 no farther from fp32 than the plain forward is (by half again at most). A
deliberately wrong mask fails. Sliding windows and chunks are of 8 tokens, shorter than prompts and responses.

"""

_EXPERTS = """
Experts: each token is routed by itself, so that packing does not change which experts it meets (tested); the router's
load-balancing loss does not enter the objective. In bf16 a near tie of the router can fall the other way in either
forward.

"""

_REFUSED = """## Through the plain forward

These are known not to allow it; `auto` says the reason and `tree` raises with it.

"""

_BOTTOM = """
## Refused in either forward

Long-context rotary scaling (`longrope`, `dynamic`) turns all positions of a batch differently once one sequence of it
is past the original length. Examples past that length are refused with the remedy, since their neighbours'
log-probabilities would depend on what they are computed with.

## Not held

An architecture that is not in the tables goes through the comparison like any other. It sees what shows on your
examples: something that only begins past their length would not. Multimodal models are not tested.
"""


def page() -> str:
    """The page's text."""
    held = ["| architecture | in it |", "| --- | --- |"]
    held += [f"| {f.name} (`{_class(f)}`) | {f.features} |" for f in HELD]
    refused = ["| architecture | in it | reason |", "| --- | --- | --- |"]
    refused += [f"| {f.name} (`{_class(f)}`) | {f.features} | {refusal(tiny_model(f.name))} |" for f in REFUSED]
    return _TOP + "\n".join(held) + "\n" + _EXPERTS + _REFUSED + "\n".join(refused) + "\n" + _BOTTOM


def _class(family: Family) -> str:
    return type(tiny_model(family.name)).__name__


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
