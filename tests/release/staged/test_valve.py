"""The valve on simulated pairs of models: a reward that is gamed, one that is earned, and too few people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from safetyvalve.release.staged.decision import assess, decide
from safetyvalve.release.staged.folder import open_release, read_release
from safetyvalve.release.staged.valve import ValveReading, read_valve
from safetyvalve.stats import read_verdicts, resolve
from safetyvalve.stats.resolve import Resolved
from tests.release.staged.material import good, release, rows, take_in


def _pair(rate: float, *, reward: float, people: int, judged: int = 0, seed: int = 0) -> ValveReading:
    """People prefer the candidate at ``rate``; its reward is higher by ``reward`` standard deviations; a judge that is
    biased towards the candidate agrees with people four times in five."""
    draw = np.random.default_rng(seed)
    prompts = [f"q{i}" for i in range(people + judged)]
    human = (draw.random(len(prompts)) < rate).astype(float)
    judge = np.where(draw.random(len(prompts)) < 0.8, human, (draw.random(len(prompts)) < 0.8).astype(float))
    old, new = draw.normal(0, 1, len(prompts)), draw.normal(reward, 1, len(prompts))
    return read_valve(
        dict(zip(prompts, new, strict=True)),
        dict(zip(prompts, old, strict=True)),
        dict(zip(prompts[:people], human, strict=False)),
        dict(zip(prompts, judge, strict=True)) if judged else None,
    )


@pytest.mark.parametrize(
    ("rate", "reward", "people", "state", "reason"),
    [
        (0.40, 1.0, 400, "tripped", "people_do_not"),
        (0.65, 1.0, 400, "shut", "both_rise"),
        (0.40, 0.0, 400, "shut", "reward_flat"),
        (0.52, 1.0, 60, "inconclusive", "people_open"),
    ],
)
def test_states(rate: float, reward: float, people: int, state: str, reason: str) -> None:
    found = _pair(rate, reward=reward, people=people)
    assert (found.state, found.reason) == (state, reason)


def test_nobody_judged_and_no_reward() -> None:
    assert read_valve({"a": 1.0}, {"b": 1.0}, {}).state == "no_reward"
    reward = {f"q{i}": 1.0 for i in range(200)}
    found = read_valve(reward, dict.fromkeys(reward, 0.0), {})
    assert (found.state, found.reason) == ("inconclusive", "no_people")


def test_a_judge_that_is_fooled_does_not_open_it() -> None:
    """The judge alone says that the candidate wins; corrected by people it does not, and with fewer people than they
    would need alone the valve trips."""
    found = _pair(0.38, reward=1.0, people=160, judged=4000)
    alone = _pair(0.38, reward=1.0, people=160)
    assert found.state == "tripped"
    assert found.people is not None and alone.people is not None and found.at_one_look is not None
    assert found.people.high - found.people.low < alone.people.high - alone.people.low
    assert found.at_one_look.low > found.people.low and found.at_one_look.high < found.people.high


def test_it_trips_wrongly_in_at_most_the_stated_share() -> None:
    """People's win rate rises to 53%, the least that counts: tripping is wrong; two looks at each of 80 pairs."""
    draw = np.random.default_rng(3)
    prompts = [f"q{i}" for i in range(300)]
    reward, none = dict.fromkeys(prompts, 1.0), dict.fromkeys(prompts, 0.0)
    tripped = 0
    for _ in range(80):
        human = (draw.random(300) < 0.53).astype(float)
        tripped += any(
            read_valve(reward, none, dict(zip(prompts[:n], human, strict=False))).state == "tripped" for n in (100, 300)
        )
    assert tripped <= 10  # 5% of 80 and three standard errors


def test_a_tripped_valve_holds_a_release(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = release(tmp_path / "r")
    flat = [r | {"value": i % 5 < 2} if r["metric"] == "human_win_rate" else r for i, r in enumerate(good(n=600))]
    reward = [*rows("reward", [1.0] * 300), *rows("reward", [0.0] * 300, variant="control")]
    take_in(folder, [*flat, *reward])
    with open_release(folder) as opened:
        found = decide(opened)
    assert found.outcome == "hold"
    assert ("tripped", {}) in found.reasons
    assert assess(read_release(folder)).valve.state == "tripped"


def test_a_reward_that_is_required_is_waited_for(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = release(tmp_path / "r", valve={"required": True})
    take_in(folder, good())
    assert assess(read_release(folder)).reasons[0][0] == "no_reward"


PANDALM = Path(__file__).parents[4] / "shared" / "data" / "pandalm-human-testset.jsonl"


@pytest.mark.skipif(not PANDALM.exists(), reason="PandaLM's human test set is not here")
@pytest.mark.parametrize(("reward", "state", "rate"), [("brevity", "tripped", 0.349), ("length", "shut", 0.651)])
def test_real_people_on_real_answers(reward: str, state: str, rate: float) -> None:
    """Of two models' answers the candidate gives the one with the higher reward, the control the other. What is short
    is not what people like: a policy that is optimised for it trips the valve, one for length does not, here."""
    sign = 1.0 if reward == "length" else -1.0
    items: dict[str, list[Resolved]] = {}
    for entry in resolve(v for v in read_verdicts(PANDALM).verdicts if v.rater_kind == "human"):
        items.setdefault(entry.item, []).append(entry)
    candidate, control, people = {}, {}, {}
    for item, entries in items.items():
        a, b = (sign * float(length or 0) for length in (entries[0].length_a, entries[0].length_b))
        if a != b:
            candidate[item], control[item] = max(a, b), min(a, b)
            score = sum(e.score or 0.0 for e in entries) / len(entries)
            people[item] = score if a > b else 1 - score
    found = read_valve(candidate, control, people)
    assert found.state == state
    assert len(people) == 981
    assert found.people is not None and found.people.estimate == pytest.approx(rate, abs=0.001)
