"""Assumptions: what is accepted, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetyvalve.errors import UsageError
from safetyvalve.release.money import checked_currency, money, parse_amount
from safetyvalve.release.roi_assumptions import NUMBERS, Triangle, read_assumptions, template, triangle
from tests.release.tickets import write

LEAST = "currency: jpy\nhorizon_months: 3\nvolume: 100\nwage: 3000\none_off: 120万\nrunning: 0\n"


def test_the_templates_are_read_and_name_every_assumption(tmp_path: Path) -> None:
    both = [read_assumptions(write(tmp_path / f"{lang}.yaml", template(lang))) for lang in ("en", "ja")]
    assert both[0] == both[1]
    assert both[0].numbers["volume"] == Triangle(9000, 10000, 11000)
    for lang in ("en", "ja"):
        assert all(f"{name}:" in template(lang) for name in NUMBERS)


def test_a_file_and_options_over_it(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", LEAST + "complaint_cost: {low: 1千, mode: 5000, high: 1万}\n")
    found = read_assumptions(file, {"wage": "2_500,3_000,4_000", "horizon_months": "6"})
    assert (found.currency, found.horizon_months) == ("JPY", 6)
    assert found.numbers["one_off"] == Triangle(1.2e6, 1.2e6, 1.2e6)
    assert found.numbers["wage"] == Triangle(2500, 3000, 4000)
    assert found.numbers["complaint_cost"] == Triangle(1000, 5000, 10000)


def test_monthly_volumes(tmp_path: Path) -> None:
    found = read_assumptions(write(tmp_path / "a.yaml", LEAST.replace("volume: 100", "volume: [50, 100, 150]")))
    assert found.volumes == (50, 100, 150) and found.numbers["volume"].mode == 100
    assert found.profile.tolist() == [0.5, 1, 1.5]


BAD = {
    "volume: [50, 100]": r"a\.yaml:3: volume has 2 monthly values for a horizon of 3 months: the months 3 to 3 are "
    "missing",
    "volume: [50, 100, -1]": r"a\.yaml:3: volume is -1 in month 3",
    "volume: -5": r"a\.yaml:3: volume is -5; 0 or more",
    "volume: {low: 5, mode: 4, high: 6}": r"a\.yaml:3: volume is low 5, mode 4, high 6; they must be in this order",
    "volume: {low: 5, high: 6}": r"a\.yaml:3: volume has the keys low, high; low, mode and high",
    "volume: many": r"a\.yaml:3: volume is 'many'; a number is accepted",
    "volume: 1\nvolume: 2": r"a\.yaml:4: 'volume' stands here again",
    "volume: 1\nredeployed: 1.5": r"a\.yaml:4: redeployed is 1.5; 0 to 1 is accepted",
    "volume: 1\nvolumes: 2": r"a\.yaml:4: there is no assumption 'volumes'",
    "volume: 1\nhandle_includes_edit: maybe": r"a\.yaml:4: handle_includes_edit is 'maybe'; true or false",
    "volume: 1\nyearly_discount: 3": r"a\.yaml:4: yearly_discount is 3; a share a year",
    "volume: 1\nwage_: 1": "there is no assumption 'wage_'",
    "": r"not given: volume \(tickets a month\)",
}


@pytest.mark.parametrize("line", BAD)
def test_refused_with_file_and_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=BAD[line]):
        read_assumptions(write(tmp_path / "a.yaml", LEAST.replace("volume: 100", line)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"horizon_months": "0"}, "--set: horizon_months is '0'; a whole number of months from 1 to 120"),
        ({"wage": "1,2"}, "LOW,MODE,HIGH"),
        ({"currency": "yen!"}, "an ISO code of three letters"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, option: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_assumptions(write(tmp_path / "a.yaml", LEAST), option)


def test_a_triangle_has_its_mean_and_its_ends() -> None:
    drawn = Triangle(1, 2, 6).draw(200_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(Triangle(1, 2, 6).mean, rel=0.01)
    assert drawn.min() >= 1 and drawn.max() <= 6
    assert triangle("4").sure and not triangle("1,2,3").sure


@pytest.mark.parametrize(
    ("value", "currency", "en", "ja"),
    [
        (1_234_567, "JPY", "JPY 1,230,000", "123万円"),
        (-123_456_789, "JPY", "−JPY 123,000,000", "−1.23億円"),
        (12_345, "JPY", "JPY 12,300", "1.23万円"),
        (9_999_600, "JPY", "JPY 10,000,000", "1,000万円"),
        (99_999_999, "JPY", "JPY 100,000,000", "1億円"),
        (320, "JPY", "JPY 320", "320円"),
        (0, "JPY", "JPY 0", "0円"),
        (1_234.5, "USD", "USD 1,230", "1,230 USD"),
        (3.456, "EUR", "EUR 3.46", "3.46 EUR"),
    ],
)
def test_money_as_its_readers_write_it(value: float, currency: str, en: str, ja: str) -> None:
    assert (money(value, currency), money(value, currency, "ja")) == (en, ja)
    assert money(float("inf"), currency) == "–"
    assert money(5, "JPY", sign=True) == "+JPY 5"


@given(st.integers(0, 10**12))
def test_amounts_are_what_was_written(value: int) -> None:
    wide = str(value).translate(str.maketrans("0123456789", "０１２３４５６７８９"))
    assert parse_amount(str(value)) == parse_amount(wide + "円") == parse_amount(f"{value:_}") == value
    assert parse_amount(f"{value}万") == value * 10_000


@pytest.mark.parametrize("text", ["", "万", "1,000", "1e400", "nan", "¥", "one"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(ValueError, match="a number is accepted"):
        parse_amount(text)


def test_currency() -> None:
    assert checked_currency("usd") == "USD"
