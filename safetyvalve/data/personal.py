"""Text that looks like an e-mail address or a telephone number: counted and located, never shown in full."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import phonenumbers

from safetyvalve.data.schema import Place, PreferenceExample
from safetyvalve.data.shares import Record, place_of, rows_said

__all__ = ["PHONE_REGIONS", "Finding", "PersonalData", "find_personal", "personal_data", "redact"]

Kind = Literal["e-mail", "phone"]

PHONE_REGIONS = ("JP", "US")
"""Countries whose national numbers are looked for; numbers with + and a country code are found for all countries."""

# ASCII and its full-width forms, which Japanese text uses. The look-behind keeps the search linear: without it each
# letter of a long word starts a new attempt.
_LETTERS = r"A-Za-zＡ-Ｚａ-ｚ"
_WORD = _LETTERS + r"0-9０-９_\-－"
_EMAIL = re.compile(rf"(?<![{_WORD}.%+])[{_WORD}.%+]{{1,64}}[@＠](?:[{_WORD}]{{1,63}}[.．])+[{_LETTERS}]{{2,24}}")
_DIGITS = re.compile(r"\d(?:\D{0,3}\d){8}")


class Finding(Record):
    """One place that looks like personal data."""

    kind: Kind
    place: Place
    field: str
    """``prompt[i]`` or ``responses[i]``, counted from 0."""
    shown: str
    """What is left of it: the first character of an address, the last two digits of a number."""


class PersonalData(Record):
    """Everything found. Each text of a row is looked at once."""

    findings: list[Finding]
    counts: dict[Kind, int]
    rows: int
    """Rows with at least one finding."""
    regions: list[str]

    def lines(self) -> Iterator[str]:
        if not self.findings:
            yield f"  personal data: nothing that looks like an e-mail address or a phone number ({self._countries})"
            return
        counts = ", ".join(f"{kind} {count}" for kind, count in self.counts.items())
        yield f"  looks like personal data: {counts}, in {self.rows} rows ({self._countries})"
        for kind in self.counts:
            yield f"    {kind}: {rows_said(f.place for f in self.findings if f.kind == kind)}"

    @property
    def _countries(self) -> str:
        return f"national numbers of {', '.join(self.regions)}"


def personal_data(examples: Sequence[PreferenceExample], *, regions: Sequence[str] = PHONE_REGIONS) -> PersonalData:
    """Look for e-mail addresses and telephone numbers.

    A number counts where its digits and their grouping are valid for a country (by the metadata of Google's
    libphonenumber), so that dates, prices and card numbers do not. Any digits may be full-width.
    """
    findings = []
    for number, example in enumerate(examples, 1):
        place = place_of(example, number)
        texts = [(f"prompt[{i}]", m.content) for i, m in enumerate(example.prompt)]
        texts += [(f"responses[{i}]", r.content) for i, r in enumerate(example.responses)]
        findings += [
            Finding(kind=kind, place=place, field=field, shown=_masked(kind, text[start:end]))
            for field, text in texts
            for kind, start, end in find_personal(text, regions=regions)
        ]
    kinds: tuple[Kind, ...] = ("e-mail", "phone")
    counts: dict[Kind, int] = {kind: n for kind in kinds if (n := sum(f.kind == kind for f in findings))}
    return PersonalData(findings=findings, counts=counts, rows=len({f.place for f in findings}), regions=list(regions))


def find_personal(text: str, *, regions: Sequence[str] = PHONE_REGIONS) -> list[tuple[Kind, int, int]]:
    """Kind, start and end of each place that looks like personal data, in the order of the text."""
    found: dict[tuple[int, int], Kind] = {}
    if "@" in text or "＠" in text:
        found |= {m.span(): "e-mail" for m in _EMAIL.finditer(text)}
    if _DIGITS.search(text):
        for region in regions:
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.STRICT_GROUPING):
                span = (match.start, match.end)
                # Another region may see a shorter number in the same place.
                if not any(start < span[1] and span[0] < end for start, end in found):
                    found[span] = "phone"
    return [(kind, *span) for span, kind in sorted(found.items())]


def redact(text: str) -> str:
    """The text with each such place masked."""
    parts, done = [], 0
    for kind, start, end in find_personal(text):
        parts += [text[done:start], f"[{kind} {_masked(kind, text[start:end])}]"]
        done = end
    return "".join([*parts, text[done:]])


def _masked(kind: Kind, text: str) -> str:
    return f"{text[0]}…" if kind == "e-mail" else f"…{''.join(c for c in text if c.isdigit())[-2:]}"
