"""Words that tell who wrote an answer, hidden while people judge.

Only what is shown changes. An answer with a hidden word cannot be corrected: the correction would carry the mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["MASK", "Mask"]

MASK = "█████"

_WORDS = (
    r"Chat-?GPT",
    r"GPT-?[1-9][\w.-]*",
    r"Open ?AI",
    r"Anthropic",
    r"Deep ?Mind",
    r"Deep ?Seek[\w.-]*",
    r"Smol ?LM\d?[\w.-]*",
    r"Hugging ?Face",
    r"LLaMA-[\w.-]+",
    r"Llama[ -]?\d[\w.-]*",
    r"Meta AI",
    r"Mistral(?: AI|[ -]?\d[\w.-]*)",
    r"Mixtral[\w.-]*",
    r"Qwen[\w.-]*",
    r"Tongyi",
    r"Alibaba(?: Cloud)?",
    r"(?:Google )?Gemini(?= (?:Pro|Ultra|Nano|Flash|\d))",
    r"Google Bard",
    r"Claude(?:[ -](?:\d[\w.-]*|Opus|Sonnet|Haiku|Instant))",
    r"Vicuna",
    r"StableLM[\w.-]*",
    r"ELYZA",
    r"rinna",
    r"PLaMo",
    r"Swallow-\w[\w.-]*",
)
# "I am Claude, ...", "私はGeminiです": plain words elsewhere, names here.
_SELF = (
    r"(?<=I am )(?:Claude|Gemini|Bard|Llama|Mistral|Grok|Copilot|Phi)\b",
    r"(?<=I'm )(?:Claude|Gemini|Bard|Llama|Mistral|Grok|Copilot|Phi)\b",
    r"(?<=name is )(?:Claude|Gemini|Bard|Llama|Mistral|Grok|Copilot|Phi)\b",
    r"(?<=私は)(?:Claude|Gemini|Bard|Llama|Mistral|Grok|Copilot|Phi)",
)


class Mask:
    """Hides identity words.

    Args:
        names: of runs and models. A name of letters only is an ordinary word as often as not ("base", "chosen") and is
            left; give it under ``words`` to hide it.
        words: further words, hidden as they are.
    """

    def __init__(self, names: Iterable[str] = (), words: Iterable[str] = ()) -> None:
        telling = {n for n in names if len(n) >= 3 and re.search(r"[\d_./-]", n)} | {w for w in words if w.strip()}
        own = [re.escape(name) for name in sorted(telling, key=len, reverse=True)]
        # No \b: Japanese writes names without spaces around them.
        insensitive = "|".join((*own, *_WORDS))
        self._pattern = re.compile(rf"(?<![A-Za-z0-9])(?:(?i:{insensitive}))(?![A-Za-z0-9])|{'|'.join(_SELF)}")

    def __call__(self, text: str) -> tuple[str, int]:
        """The text to show, and how many words are hidden in it."""
        return self._pattern.subn(MASK, text)
