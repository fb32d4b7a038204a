"""``release.yaml``: stages, guardrails with their margins, error rates, who trained and who may approve."""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from safetyvalve.errors import ReleaseError, UsageError, shorten
from safetyvalve.hashing import digest

__all__ = [
    "Guardrail",
    "Planning",
    "Settings",
    "Stage",
    "Valve",
    "parse_settings",
    "read_settings",
    "same_person",
    "signer_name",
]

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^\S(.*\S)?$")]
Rate = Annotated[float, Field(gt=0, lt=0.5)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Stage(_Strict):
    """A part of a release with one share of the traffic.

    At share 0 people are not shown the candidate: both models answer the same requests, and changes are measured on
    pairs. Between 0 and 1 units are split at random into two arms. At 1 there is no control left.
    """

    name: Name
    share: Annotated[float, Field(ge=0, le=1)]
    min_days: Annotated[float, Field(ge=0)] = 0.0
    """Days from the stage's first observation to its last before it can be left; weekdays differ."""


class Planning(_Strict):
    """What ``release simulate`` assumes of a metric; gates do not read it."""

    per_day: Annotated[float, Field(gt=0)]
    """Units observed a day, both arms together."""
    control: float
    """Usual value of the control; of the candidate where it is compared with a level."""
    candidate: float | None = None
    """Value of a good candidate; as good as the control if not given."""
    spread: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation from unit to unit; binary metrics have their own."""


class Guardrail(_Strict):
    """One metric that must not get worse by its margin, whatever the others gain."""

    metric: Name
    kind: Literal["binary", "bounded", "continuous"]
    better: Literal["higher", "lower"]
    margin: float
    """Loss that is still accepted, in the metric's unit; negative: a gain that is asked for."""
    compare: Literal["change", "level"] = "change"
    """Candidate against control, or the candidate alone against ``level``."""
    level: float | None = None
    range: tuple[float, float] | None = None
    """Of a bounded metric; values above count as the upper end, values below are refused."""
    rollback_at: float | None = None
    """Loss whose proof takes all traffic away at once, without a person; never if not given."""
    evidence: Literal["people", "records"] = "records"
    """``people``: only verdicts of people count."""
    judge_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Help of a judge on units that people did not see (prediction-powered); 0 takes people alone."""
    stages: tuple[Name, ...] | None = None
    """Where it gates; everywhere if not given."""
    planning: Planning | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.compare == "level") != (self.level is not None):
            raise ValueError("level goes with compare: level, and only with it")
        if (self.kind == "bounded") != (self.range is not None):
            raise ValueError("range goes with kind: bounded, and only with it, such as range: [0, 60]")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range is {list(self.range)}; a lower end below an upper one is accepted")
        low, high = self.limits
        if self.level is not None and not low < self.level < high:
            raise ValueError(f"level is {self.level:g}; a number between {low:g} and {high:g} is accepted")
        for name in ("margin", "rollback_at"):
            value = getattr(self, name)
            if value is not None and not abs(value) < high - low:
                raise ValueError(f"{name} is {value:g}; less than the metric's range, {high - low:g}, is accepted")
            if value is not None and self.level is not None and not low < self.level + self.sign * value < high:
                raise ValueError(f"level and {name} lead to {self.level + self.sign * value:g}, outside of the range")
        if self.judge_weight and (self.evidence != "people" or self.compare != "level" or self.limits != (0, 1)):
            raise ValueError("judge_weight goes with evidence: people, compare: level and values from 0 to 1")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        if self.range is not None:
            return self.range
        return (0.0, 1.0) if self.kind == "binary" else (-math.inf, math.inf)

    @property
    def sign(self) -> int:
        """A loss is this times the change: 1 where lower is better."""
        return 1 if self.better == "lower" else -1

    def gates(self, stage: Stage) -> bool:
        """Whether it is asked in a stage; without a control nothing can have changed."""
        return (self.stages is None or stage.name in self.stages) and (self.compare == "level" or stage.share < 1)


class Valve(_Strict):
    """Trips when the learned reward rises and people's win rate does not."""

    reward: Name = "reward"
    """Metric of the reward, recorded of both models on the same prompts."""
    win_rate: Name = "human_win_rate"
    """Guardrail of people's win rate."""
    min_rise: Annotated[float, Field(ge=0, lt=0.5)] = 0.03
    """A human win rate below one half plus this is no rise."""
    judge_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Help of a judge on prompts that people did not see; 0 takes people alone."""
    required: bool = False
    """Whether a stage cannot be left without a recorded reward."""


class ErrorRates(_Strict):
    promote: Rate = 0.05
    """Of each guardrail, at all times at once: chance that it passes a candidate which loses its margin."""
    stop: Rate = 0.05
    """Of the whole release: chance that a candidate which loses nothing of note fails or is rolled back."""


class ApprovalRules(_Strict):
    valid_days: Annotated[float, Field(gt=0, le=90)] = 7.0
    """How long an approval holds at most."""
    signers: tuple[str, ...] = ()
    """Lines ``NAME KEYTYPE KEY`` as in OpenSSH's allowed_signers; if there are any, approvals must be signed."""


def signer_name(line: str) -> str:
    """Whose key a line of ``signers`` is.

    Raises:
        ValueError: it is not written as in OpenSSH's allowed_signers, with one plain name.
    """
    words = line.split()
    if len(words) < 3 or not words[1].startswith(("ssh-", "ecdsa-", "sk-")) or set(words[0]) & set(',*?!"#'):
        raise ValueError(
            f"the signer {shorten(line)} is no line NAME KEYTYPE KEY, such as 'b.tanaka ssh-ed25519 AAAA...'"
        )
    return words[0]


class Settings(_Strict):
    """Everything that is fixed before the first observation."""

    name: Name
    candidate: Name
    """As verdict files name it."""
    control: Name
    trainers: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Who trained the candidate; none of them can approve it."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=2)]
    guardrails: Annotated[tuple[Guardrail, ...], Field(min_length=1)]
    error_rates: ErrorRates = ErrorRates()
    approval: ApprovalRules = ApprovalRules()
    valve: Valve = Valve()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.candidate == self.control:
            raise ValueError(f"candidate and control are both {self.candidate!r}; two models are compared")
        names = [s.name for s in self.stages]
        _distinct("stages", names)
        _distinct("guardrails", [g.metric for g in self.guardrails])
        shares = [s.share for s in self.stages]
        if any(b <= a for a, b in pairwise(shares)) or shares[-1] != 1:
            raise ValueError(f"the stages' shares are {shares}; rising ones that end in 1 are accepted")
        for g in self.guardrails:
            if unknown := set(g.stages or ()) - set(names):
                raise ValueError(f"guardrail {g.metric!r} names the stage {min(unknown)!r}; there are {names}")
        for line in self.approval.signers:
            if (name := signer_name(line)) and any(same_person(name, t) for t in self.trainers):
                raise ValueError(f"the signer {name!r} trained the candidate; another person approves")
        for stage in self.stages[:-1]:
            if not any(g.evidence == "people" and g.gates(stage) for g in self.guardrails):
                raise ValueError(
                    f"no guardrail of the stage {stage.name!r} has evidence: people; a judge's evidence alone never "
                    "promotes, so every stage that is left needs one"
                )
        return self

    @property
    def digest(self) -> str:
        return digest(self.model_dump(mode="json"))

    def stop_level(self) -> float:
        """Level of each single test that can stop the release: a union bound over tests and stages."""
        tests = sum(
            g.gates(stage) * (1 + (g.rollback_at is not None)) for g in self.guardrails for stage in self.stages
        )
        return self.error_rates.stop / tests

    def guardrail(self, metric: str) -> Guardrail | None:
        return next((g for g in self.guardrails if g.metric == metric), None)


def _distinct(what: str, names: list[str]) -> None:
    if twice := {n for n in names if names.count(n) > 1}:
        raise ValueError(f"two {what} are named {min(twice)!r}; each needs a name of its own")


def same_person(one: str, other: str) -> bool:
    """Whether two names are written alike but for case, width and spaces."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def read_settings(file: Path) -> Settings:
    """Read ``release.yaml``.

    Raises:
        ReleaseError: there is none.
        UsageError: it is no YAML, or a value is missing, unknown or not accepted; the message names the place.
    """
    try:
        value = yaml.safe_load(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ReleaseError(
            f"'{file.parent}' holds no release: it has no {file.name}. Make one with `safetyvalve release init`."
        ) from None
    except OSError as error:
        raise ReleaseError(f"'{file}' cannot be read ({error.strerror}). Mend its permissions.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} is not YAML in UTF-8 ({shorten(str(error), 160)}). Mend it.") from None
    return parse_settings(value, str(file))


def parse_settings(value: object, place: str) -> Settings:
    """Settings from plain values; ``place`` is named in messages."""
    if not isinstance(value, dict):
        raise UsageError(
            f"{place} holds {shorten(value)}; settings by name are accepted, as `release init` writes them."
        )
    try:
        return Settings.model_validate(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        at = _where(value, wrong["loc"])
        got = "" if wrong["type"] in ("missing", "value_error") else f"; got {shorten(wrong['input'])}"
        message = wrong["msg"].removeprefix("Value error, ")
        raise UsageError(f"{place}{at}: {message}{got}. Mend the file.") from None


def _where(value: object, loc: tuple[int | str, ...]) -> str:
    """``, guardrails 2 (harm), margin``: numbers from 1, with the entry's own name."""
    parts: list[str] = []
    for key in loc:
        if isinstance(key, int) and isinstance(value, list | tuple) and key < len(value):
            value = value[key]
            name = value.get("metric", value.get("name")) if isinstance(value, dict) else None
            parts[-1] += f" {key + 1}" + (f" ({name})" if name else "")
        else:
            value = value.get(key) if isinstance(value, dict) else None
            parts.append(str(key))
    return "".join(f", {part}" for part in parts)
