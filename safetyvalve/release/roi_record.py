"""``roi.json``: what was computed, from what, and how sure it is. Amounts of money are in the currency named in it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "Amount",
    "Bar",
    "Caution",
    "Effect",
    "Estimate",
    "Evidence",
    "Flip",
    "Labour",
    "Net",
    "Payback",
    "Quality",
    "Range",
    "Roi",
    "Scenario",
    "StudyRecord",
    "TicketSource",
]

Evidence = Literal["randomised", "did", "before-after", "human verdicts", "timed", "given", "assumed"]
"""How good the ground of an amount is: the design of the ticket study, people's blind verdicts, timers of the labelling
app, a price that the user pays, or an assumption of the user."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Record):
    """An estimate with its two-sided interval."""

    estimate: float
    low: float
    high: float


class Range(_Record):
    """An assumption: lowest, most likely, highest. Amounts are computed at the mean of the three."""

    low: float
    mode: float
    high: float


class Effect(_Record):
    """A quantity of tickets without and with the new system: a share, minutes, points, or a count a ticket."""

    key: str
    control: float
    treated: float
    difference: Estimate
    """Treated minus control."""
    known: dict[str, int]
    """Tickets that know it, by cell of the study."""


class StudyRecord(_Record):
    """What tickets were compared, and how."""

    design: Literal["randomised", "did", "before-after"]
    unit: Literal["customer", "agent", "ticket"]
    control: str | None
    treatment: str | None
    launch: str | None
    tickets: dict[str, int]
    """By cell."""
    units: list[int]
    """Independent units by variant."""
    few_units: bool
    """Under 30 in a variant: intervals are Student's t."""
    other_variants: int
    """Tickets of variants that were not compared."""
    outside: int
    """Tickets outside the time that was asked for."""
    first: str
    last: str
    months: int


class TicketSource(_Record):
    """A file that was read."""

    name: str
    kind: str
    encoding: str | None
    sha256: str
    tickets: int
    columns: dict[str, str]
    ignored: list[str]


class Quality(_Record):
    """Human win rate of the new system against the old one."""

    candidate: str
    baseline: str
    win_rate: Estimate
    points: Estimate
    """100 (win rate - 1/2)."""
    method: Literal["people", "people and judge"]
    """``people and judge``: prediction-powered inference (PPI++)."""
    judge: str | None
    prompts: int
    """With verdicts of people."""
    people: int
    verdicts: int


class Labour(_Record):
    """Time that people spent judging, by the labelling app's own timers."""

    hours: float
    people: int
    votes: int
    corrections: int
    untimed: int
    """Votes and corrections without a time; charged at the mean of the others."""


class Amount(_Record):
    """Money over the horizon; positive is gained."""

    key: str
    term: Literal["short", "long", "cost"]
    total: Estimate
    evidence: Evidence


class Payback(_Record):
    """The month from whose end on the net stays at or above 0."""

    median: int | None
    """None where more than half of the draws never pay back within the horizon."""
    by_month: list[float]
    """Chance of each month, from the first."""
    never: float


class Bar(_Record):
    """One bar of the tornado chart: the net with one input at its ends and the others at their means."""

    key: str
    low: float
    high: float
    """Of the input: as given, or the ends of its interval."""
    net_low: float
    """At the input's low."""
    net_high: float


class Flip(_Record):
    """The value of one input at which the net is 0, the others at their means."""

    key: str
    base: float
    break_even: float | None
    """None where no value of it is."""
    possible: bool
    """Whether the input can have that value at all: no share above 1, no price below 0."""
    within: bool
    """Whether it is within the input's own range, so that what is not known decides the sign."""


class Net(_Record):
    """Everything gained less everything paid, over the horizon."""

    key: Literal["short", "both"]
    """``short``: without complaints and satisfaction. ``both``: with them."""
    total: Estimate
    p_positive: float
    return_on_cost: Estimate | None
    """Net over cost; None where nothing is paid."""
    payback: Payback
    tornado: list[Bar]
    flips: list[Flip]


class Scenario(_Record):
    """The result at one share of freed time that is redeployed."""

    redeployed: Range
    given: bool
    """False where the user gave none, and it is shown at 0.5 and 1."""
    amounts: list[Amount]
    nets: list[Net]


class Caution(_Record):
    """What to know before believing; ``key`` is a message of roi_text, with its values."""

    key: str
    values: dict[str, str] = {}


class Roi(_Record):
    """Return on investment."""

    safetyvalve: str
    currency: str
    horizon_months: int
    yearly_discount: float
    confidence: float
    replicates: int
    seed: int
    study: StudyRecord
    sources: list[TicketSource]
    assumptions: dict[str, Range]
    monthly_volumes: list[float] | None
    handle_includes_edit: bool
    effects: list[Effect]
    placebo: list[Effect]
    """Difference in differences within the time before the launch, where nothing should be seen; else empty."""
    quality: Quality | None
    labour: Labour | None
    scenarios: list[Scenario]
    not_counted: dict[str, str]
    """Amount -> why it is not in any net."""
    cautions: list[Caution]
