"""Scripted annotators: they sign in to the real app over HTTP and judge what its pages show, by the rubric with noise.

They are no people and the tour says so wherever their verdicts are used. What they have in common with people is the
road: invite, guideline, practice, pages without scripts, votes, corrections.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import NamedTuple

import httpx2 as httpx

from safetyvalve.errors import RunError
from safetyvalve.lab.quickstart.rubric import load_prompts, rubric_score

__all__ = ["Judged", "judge_all", "prefers_first", "read_page"]

_SHARPNESS = 2.0
"""Log-odds of preferring an answer that is one rubric point better."""
_EQUAL, _BAD = 0.05, -1.0
"""Scores closer than the first are a tie; two scores below the second are both bad."""
_INLINE = ("em", "strong", "s", "code", "span")
_CORRECTED = 0.1
"""Share of judged items whose better answer is corrected too."""


def prefers_first(first: float, second: float, noise: random.Random) -> bool:
    """How a scripted annotator decides between two answers of these rubric scores: log-odds of two for each point."""
    return noise.random() < 1 / (1 + math.exp(-_SHARPNESS * (first - second)))


class Judged(NamedTuple):
    """What the scripted annotators did."""

    votes: Counter[str]
    """By choice: ``1``, ``2``, ``tie``, ``both_bad``."""
    corrections: int


class Page(NamedTuple):
    """What a judging page shows."""

    prompt: str
    answers: tuple[str, ...]


class _Reader(HTMLParser):
    """The text inside the elements of a class, one text each."""

    def __init__(self, name: str) -> None:
        super().__init__(convert_charrefs=True)
        self.name, self.depth, self.found = name, 0, list[list[str]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.depth and tag not in _INLINE:
            self.found[-1].append(" ")
        if tag in ("br", "hr", "input", "meta", "link", "img"):
            return
        if self.depth:
            self.depth += 1
        elif self.name in (dict(attrs).get("class") or "").split():
            self.depth = 1
            self.found.append([])

    def handle_endtag(self, tag: str) -> None:
        self.depth -= bool(self.depth)

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.found[-1].append(data)


def read_page(html: str) -> Page:
    """The question and the answers as a person would read them."""
    question, _, answers = html.partition('class="answers"')
    return Page(" ".join(_texts(question, "said")), tuple(_texts(answers, "said")))


def _texts(html: str, name: str) -> list[str]:
    reader = _Reader(name)
    reader.feed(html)
    return [" ".join("".join(parts).split()) for parts in reader.found]


def judge_all(links: Sequence[str], *, seed: int = 0) -> Judged:
    """Sign in with each invite and judge until nothing is left, in turns.

    Args:
        links: invites that `safetyvalve annotate serve` printed.
        seed: of the noise.

    Raises:
        RunError: the server refuses, or shows a page that is not understood.
    """
    annotators = [_Annotator(link, random.Random(f"{seed} {number}")) for number, link in enumerate(links)]
    votes, corrections = Counter[str](), 0
    try:
        active = list(annotators)
        while active:
            active = [a for a in active if a.judge_one()]
        for a in annotators:
            votes += a.votes
            corrections += a.corrections
    finally:
        for a in annotators:
            a.client.close()
    return Judged(votes, corrections)


class _Annotator:
    def __init__(self, link: str, noise: random.Random) -> None:
        base, path = re.fullmatch(r"(https?://[^/]+)(/.*)", link).groups()  # type: ignore[union-attr]
        self.client = httpx.Client(base_url=base, timeout=60, follow_redirects=True)
        self.noise, self.votes, self.corrections = noise, Counter[str](), 0
        self._send("POST", path)
        guideline = self._send("GET", "/guideline")
        self.csrf = _field(guideline, "csrf")
        self._send("POST", "/guideline", csrf=self.csrf, agreed="yes")

    def judge_one(self) -> bool:
        """Judge the next item; False where nothing is left."""
        began = time.perf_counter()
        html = self._send("GET", "/judge")
        form = re.search(r'action="(/judge/\w{32})"', html)
        if form is None:
            return False
        page = read_page(html)
        if len(page.answers) != 2:
            raise RunError(f"the judging page shows {len(page.answers)} answers where two are expected.")
        practice = 'class="practice"' in html
        choice = "tie" if practice else self._choice(page)
        editable = 'name="then" value="correct"' in html
        correct = not practice and editable and choice in ("1", "2") and self.noise.random() < _CORRECTED
        self._send(
            "POST",
            form[1],
            csrf=self.csrf,
            id=_field(html, "id"),
            choice=choice,
            then="correct" if correct else "next",
            active_ms=_spent(began),
        )
        if not practice:
            self.votes[choice] += 1
        if correct:
            self._correct(form[1], choice)
        return True

    def _choice(self, page: Page) -> str:
        first, second = (_score(page.prompt, answer) for answer in page.answers)
        if max(first, second) < _BAD:
            return "both_bad"
        if abs(first - second) < _EQUAL:
            return "tie"
        return "1" if prefers_first(first, second, self.noise) else "2"

    def _correct(self, place: str, answer: str) -> None:
        """Cut an unfinished last sentence, as a hurried person would; an answer without one is left."""
        began = time.perf_counter()
        html = self._send("GET", f"{place}/correct?answer={answer}")
        reader = re.search(r"<textarea[^>]*>\n?(.*?)</textarea>", html, re.DOTALL)
        text = _Plain.of(reader[1]) if reader else ""
        whole = re.match(r"(.*[.!?])[^.!?]+$", text.strip(), re.DOTALL)
        if whole is None:
            return
        form = {"csrf": self.csrf, "id": _field(html, "id"), "answer": answer, "active_ms": _spent(began)}
        self._send("POST", f"{place}/correct", text=whole[1], **form)
        self.corrections += 1

    def _send(self, method: str, path: str, **form: str) -> str:
        what = f"{method} /{path.split('/')[1]}"  # the rest may be an invite's token
        try:
            answer = self.client.request(method, path, data=form or None)
        except httpx.HTTPError as error:
            raise RunError(f"the labelling server does not answer {what} ({error}).") from None
        if answer.status_code != 200:
            raise RunError(f"the labelling server answers {answer.status_code} to {what}.")
        return str(answer.text)


class _Plain(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @classmethod
    def of(cls, escaped: str) -> str:
        reader = cls()
        reader.feed(escaped)
        reader.close()
        return "".join(reader.parts)


def _field(html: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([\w-]+)"', html)
    if found is None:
        raise RunError(f"a page of the labelling server has no field '{name}', which the scripted annotators need.")
    return found[1]


def _spent(began: float) -> str:
    """Milliseconds that a program took: true, and no measure of what people would take."""
    return str(max(1, round(1000 * (time.perf_counter() - began))))


def _score(prompt: str, answer: str) -> float:
    """Of the rubric where the prompt is one of ours; else the shorter answer counts as better."""
    for known in load_prompts():
        if " ".join(known.prompt.split()) in prompt:
            return rubric_score(known.key_terms, answer)
    return -len(answer) / 100
