"""What the user must say and nobody can measure for them: prices, volumes, and how sure they are of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from safetyvalve.config import Key, compose_mapping, read_scalar
from safetyvalve.errors import UsageError, shorten
from safetyvalve.release.money import checked_currency, parse_amount

__all__ = ["NUMBERS", "Assumptions", "Triangle", "assume", "read_assumptions", "template", "triangle"]

Floats = NDArray[np.float64]


class Triangle(NamedTuple):
    """A number that is not known for sure: lowest, most likely, highest. Three equal ones are a number that is."""

    low: float
    mode: float
    high: float

    @property
    def mean(self) -> float:
        """What an amount is computed at, so that it is the mean of what is drawn."""
        return (self.low + self.mode + self.high) / 3

    @property
    def sure(self) -> bool:
        return self.low == self.high

    def draw(self, n: int, generator: np.random.Generator) -> Floats:
        """[n] from the triangular distribution."""
        return np.full(n, self.mode) if self.sure else generator.triangular(self.low, self.mode, self.high, n)


class Number(NamedTuple):
    """An assumption that is a number."""

    required: bool
    low: float
    high: float
    unit: str


NUMBERS: dict[str, Number] = {
    "volume": Number(True, 0, np.inf, "tickets a month"),
    "wage": Number(True, 0, np.inf, "money an hour, with all that an hour costs the employer"),
    "one_off": Number(True, 0, np.inf, "money, once"),
    "running": Number(True, 0, np.inf, "money a month"),
    "redeployed": Number(False, 0, 1, "share of freed time that is really put to other use"),
    "evaluation_hours": Number(False, 0, np.inf, "hours that people judged so far, where no export measures them"),
    "evaluation_hours_monthly": Number(False, 0, np.inf, "hours a month that people go on judging"),
    "evaluator_wage": Number(False, 0, np.inf, "money an hour of those who judge"),
    "complaint_cost": Number(False, 0, np.inf, "money a complaint"),
    "harm_rate": Number(False, 0, 1, "incidents a ticket that the new system adds, where tickets do not measure it"),
    "harm_cost": Number(False, 0, np.inf, "money an incident"),
    "win_rate_point_value": Number(False, 0, np.inf, "money a month for one point of human win rate above 50"),
    "satisfaction_point_value": Number(False, 0, np.inf, "money a month for one point of mean satisfaction"),
}
"""Assumptions by name. Those that are not required count nothing where they are not given, and the result says so."""

_REST = {"currency", "horizon_months", "yearly_discount", "handle_includes_edit"}
_TEXT = Key(str)


@dataclass(frozen=True)
class Assumptions:
    """All of them, checked."""

    currency: str
    horizon_months: int
    numbers: Mapping[str, Triangle]
    volumes: tuple[float, ...] | None = None
    """One a month, where they are known month by month; their mean is ``numbers["volume"]``."""
    yearly_discount: float = 0.0
    handle_includes_edit: bool = True

    @property
    def profile(self) -> Floats:
        """[month] volume as a multiple of its mean."""
        if self.volumes is None:
            return np.ones(self.horizon_months)
        mean = float(np.mean(self.volumes))
        return np.array(self.volumes) / mean if mean else np.ones(self.horizon_months)


def triangle(text: str) -> Triangle:
    """``5`` or ``LOW,MODE,HIGH``.

    Raises:
        ValueError: with what is accepted.
    """
    parts = [parse_amount(part) for part in text.split(",")]
    if len(parts) not in (1, 3):
        raise ValueError(f"is {shorten(text)}; one number, or LOW,MODE,HIGH is accepted (thousands as 1_000)")
    return _ordered(Triangle(*(parts * 3 if len(parts) == 1 else parts)))


def read_assumptions(file: Path | None, options: Mapping[str, str] | None = None) -> Assumptions:
    """A YAML file, over which options win.

    Args:
        file: as ``safetyvalve roi --template`` prints it.
        options: by the same names, as texts.

    Raises:
        UsageError: with file and line: a key that is unknown, stands twice or is missing, a value out of range, low,
            mode and high out of order, or fewer monthly volumes than months.
    """
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    if file is not None:
        for key, node in compose_mapping(file).value:
            name, place = str(key.value), f"{file}:{node.start_mark.line + 1}"
            if name in values:
                raise UsageError(f"{place}: '{name}' stands here again; each key is accepted once. Remove one of them.")
            try:
                values[name], places[name] = _node(name, node), place
            except ValueError as error:
                raise UsageError(f"{place}: {name} {error}.") from None
    for name, text in (options or {}).items():
        values[name], places[name] = text, "--set"
    return assume(values, places)


def assume(values: Mapping[str, object], places: Mapping[str, str] | None = None) -> Assumptions:
    """Check values by name: numbers, texts as in the file, :class:`Triangle`, or a list of monthly volumes.

    Raises:
        UsageError: as :func:`read_assumptions`.
    """
    at = places or {}
    for name in values:
        if name not in NUMBERS and name not in _REST:
            raise UsageError(
                f"{at.get(name, 'assumptions')}: there is no assumption {shorten(name)}; accepted: "
                f"{', '.join([*NUMBERS, *sorted(_REST)])}."
            )
    needed = ["currency", "horizon_months", *(n for n, spec in NUMBERS.items() if spec.required)]
    if missing := [n for n in needed if values.get(n) is None]:
        units = "; ".join(f"{n} ({NUMBERS[n].unit})" if n in NUMBERS else n for n in missing)
        raise UsageError(
            f"not given: {units}. Nobody can assume them for you, and a cost of nothing is said as 0. Write them "
            "into the "
            "file of `safetyvalve roi --template`, or give them as options."
        )

    def checked(name: str, parse: object) -> object:
        try:
            return parse(values[name])  # type: ignore[operator]
        except ValueError as error:
            raise UsageError(f"{at.get(name, name)}: {name} {error}.") from None

    months = checked("horizon_months", _months)
    assert isinstance(months, int)
    volumes: tuple[float, ...] | None = None
    numbers: dict[str, Triangle] = {}
    for name in NUMBERS:
        if values.get(name) is None:
            continue
        if name == "volume" and isinstance(values[name], list):
            volumes = checked(name, lambda v: _monthly(v, months))  # type: ignore[assignment]
            numbers[name] = Triangle(*[float(np.mean(volumes or (0.0,)))] * 3)
        else:
            numbers[name] = checked(name, lambda v, n=name: _within(n, v))  # type: ignore[assignment]
    discount = checked("yearly_discount", _rate) if values.get("yearly_discount") is not None else 0.0
    includes = checked("handle_includes_edit", _yes) if values.get("handle_includes_edit") is not None else True
    assert isinstance(discount, float)
    return Assumptions(checked_currency(str(values["currency"])), months, numbers, volumes, discount, includes is True)


def template(lang: str = "en") -> str:
    """A commented file of all assumptions."""
    return files(__package__).joinpath("templates", f"roi_{lang}.yaml").read_text(encoding="utf-8")


def _node(name: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        parts = {str(k.value): str(read_scalar(name, v, _TEXT)) for k, v in node.value}
        if set(parts) != {"low", "mode", "high"}:
            raise ValueError(f"has the keys {', '.join(parts)}; low, mode and high are accepted, all three")
        return _ordered(Triangle(*(parse_amount(parts[k]) for k in ("low", "mode", "high"))))
    if isinstance(node, yaml.SequenceNode):
        if name != "volume":
            raise ValueError(
                "is a list; a number or {low, mode, high} is accepted, and a list of months for volume only"
            )
        return [parse_amount(str(read_scalar(name, item, _TEXT))) for item in node.value]
    value = read_scalar(name, node, Key(str, optional=True))
    return None if value is None else str(value)


def _within(name: str, value: object) -> Triangle:
    spec = NUMBERS[name]
    if isinstance(value, Triangle):
        found = _ordered(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = Triangle(float(value), float(value), float(value))
    else:
        found = triangle(str(value))
    for number in found:
        if not spec.low <= number <= spec.high or not np.isfinite(number):
            span = f"{spec.low:g} to {spec.high:g}" if np.isfinite(spec.high) else f"{spec.low:g} or more"
            raise ValueError(f"is {number:g}; {span} is accepted ({spec.unit})")
    return found


def _ordered(found: Triangle) -> Triangle:
    if not found.low <= found.mode <= found.high:
        raise ValueError(f"is low {found.low:g}, mode {found.mode:g}, high {found.high:g}; they must be in this order")
    return found


def _monthly(value: object, months: int) -> tuple[float, ...]:
    assert isinstance(value, list)
    found = tuple(float(v) for v in value)
    if len(found) != months:
        wrong = (
            f"the months {len(found) + 1} to {months} are missing"
            if len(found) < months
            else "there are more than months"
        )
        raise ValueError(f"has {len(found)} monthly values for a horizon of {months} months: {wrong}. Give one a month")
    for month, number in enumerate(found, start=1):
        if not (number >= 0 and np.isfinite(number)):
            raise ValueError(f"is {number:g} in month {month}; 0 or more is accepted")
    return found


def _months(value: object) -> int:
    text = str(value)
    if not text.isdigit() or not 1 <= int(text) <= 120:
        raise ValueError(f"is {shorten(value)}; a whole number of months from 1 to 120 is accepted")
    return int(text)


def _rate(value: object) -> float:
    found = parse_amount(str(value))
    if not 0 <= found < 1:
        raise ValueError(f"is {found:g}; a share a year from 0 to below 1 is accepted, such as 0.03")
    return found


def _yes(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"is {shorten(value)}; true or false is accepted")
    return text == "true"
