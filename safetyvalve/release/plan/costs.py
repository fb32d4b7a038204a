"""Hours of people and machine, and money by the user's own rates."""

from __future__ import annotations

from typing import NamedTuple

from safetyvalve.errors import UsageError
from safetyvalve.release.money import checked_currency, parse_amount

__all__ = ["CostLine", "Costs", "Rates", "cost_lines", "read_rates"]


class Rates(NamedTuple):
    """What an hour costs. None: not given, so that no money is counted for it."""

    wage: float | None = None
    machine: float | None = None
    currency: str | None = None
    """ISO 4217 code of both."""


class CostLine(NamedTuple):
    """One piece of work. None: not known, which is never counted as nothing."""

    work: str
    """``evaluation``, ``repeats``, ``doubling`` or ``sweep``."""
    people_hours: float | None
    machine_hours: float | None
    money: float | None


class Costs(NamedTuple):
    """All work, and the sum of what is needed to decide; more data is a choice of its own and not in it."""

    rates: Rates
    lines: tuple[CostLine, ...]
    total: float | None
    """Money of ``evaluation`` and ``sweep``; None unless both are known."""
    missing: tuple[str, ...]
    """Options that would have to be given for the total."""


def read_rates(wage: str | None, machine: str | None, currency: str | None) -> Rates:
    """Rates as the command line has them: ``2500``, ``2500円``, ``0.25万円``, with a currency.

    Raises:
        UsageError: an amount that is not above 0, or rates without a currency, or a currency without rates.
    """
    read = []
    for name, text in (("wage", wage), ("machine-rate", machine)):
        try:
            value = None if text is None else parse_amount(text)
        except ValueError as error:
            raise UsageError(f"--{name} {error}.") from None
        if value is not None and not value > 0:
            raise UsageError(f"--{name} is {text}; an amount above 0 is accepted. Leave it out to count no money.")
        read.append(value)
    given = any(value is not None for value in read)
    if any("円" in (text or "") for text in (wage, machine)):
        if currency is not None and currency.upper() != "JPY":
            raise UsageError(
                f"--currency is {currency} and a rate is in 円; one currency is accepted. Convert the rate."
            )
        currency = "JPY"
    if given and currency is None:
        raise UsageError(
            "--currency is missing; rates are amounts of one, and none is assumed. Add --currency JPY, USD..."
        )
    if currency is not None and not given:
        raise UsageError(
            f"--currency {currency} has no meaning without --wage or --machine-rate. Add one, or leave it out."
        )
    return Rates(read[0], read[1], checked_currency(currency) if currency else None)


def cost_lines(
    rates: Rates,
    *,
    evaluation: float | None,
    repeats: float | None,
    doubling: float,
    sweep: float | None,
) -> Costs:
    """Put money on hours.

    Args:
        rates: of the user.
        evaluation: hours of people to compare the models; None while no difference to be shown is chosen.
        repeats: hours of people to have some pairs judged twice, which tells the label noise; None if not needed.
        doubling: hours of people to judge as many comparisons again as there are.
        sweep: hours of machine; None where not measured.
    """

    def people(work: str, hours: float | None) -> CostLine:
        return CostLine(work, hours, None, _product(rates.wage, hours))

    lines = [people("evaluation", evaluation)]
    lines += [people("repeats", repeats)] if repeats is not None else []
    lines += [people("doubling", doubling), CostLine("sweep", None, sweep, _product(rates.machine, sweep))]
    given = {"win-rate": evaluation, "model": sweep, "wage": rates.wage, "machine-rate": rates.machine}
    needed = [line.money for line in lines if line.work in ("evaluation", "sweep")]
    known = [money for money in needed if money is not None]
    total = sum(known) if len(known) == len(needed) else None
    return Costs(rates, tuple(lines), total, tuple(name for name, value in given.items() if value is None))


def _product(rate: float | None, hours: float | None) -> float | None:
    return None if rate is None or hours is None else rate * hours
