"""False alarms and detections of the five alarms over simulated runs, and what they said in real ones (docs/alarms.md).

    python benchmarks/alarms.py [--runs 200]          simulate, and write benchmarks/alarms.json
    python benchmarks/alarms.py --real RUN [RUN ...]   replay the alarms over run folders, into the same file
    python benchmarks/alarms.py --page                 render the tables of docs/alarms.md from that file
    python benchmarks/alarms.py --check                fail where the page is not what the file gives

A simulated run has 10 evaluations of 64 prompts (one scenario: 256) with one answer each. Scenarios are paired: run i
of every scenario has the same prompts and the same noise, so that they differ by their course alone. What is
assumed is in :func:`simulate`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safetyvalve.diagnostics.alarms import ALARMS, Estimate, Evaluation, Watch, evaluation_of, loss_of
from safetyvalve.stats import proportion_interval

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "alarms.md"
BEGIN, END = "<!-- tables: benchmarks/alarms.py -->\n", "<!-- end of tables -->\n"
EVALUATIONS, PROMPTS, EXAMPLES = 10, 64, 64
PEAK = 4
"""Evaluation at which an overoptimizing run's score is highest."""


class Scenario(NamedTuple):
    """Where a run ends, in the units of :class:`safetyvalve.diagnostics.alarms.Watch`.

    From the peak on everything moves linearly to its end; the score first rises by half a standard deviation.
    """

    title: str
    fall: float = 0.0
    """Of the score below its peak, in standard deviations of an answer's score."""
    displacement: float = 0.03
    """Fall of the chosen responses, nats per token, linear from the start."""
    length: float = 1.0
    repetition: float = 0.0
    spread: float = 1.0
    at_once: bool = False
    """There from the second evaluation on, where the others get there by the last."""
    prompts: int = PROMPTS

    def moved(self, k: int) -> tuple[float, float]:
        """Share of its way at evaluation k, of the displacement and of what begins after the peak."""
        if self.at_once:
            return (float(k > 0),) * 2
        return k / (EVALUATIONS - 1), max(0, k - PEAK) / (EVALUATIONS - 1 - PEAK)


SCENARIOS = {
    "healthy": Scenario("healthy: the score rises and stays"),
    "edge": Scenario("at every tolerance from the second evaluation on", 0.0, 0.1, 1.25, 0.05, 1.25, at_once=True),
    "slight": Scenario("overoptimizing, slight", 0.25, 0.2, 1.5, 0.1, 1.5),
    "clear": Scenario("overoptimizing, clear", 0.5, 0.5, 1.75, 0.2, 2.0),
    "many": Scenario("overoptimizing, clear, 256 prompts", 0.5, 0.5, 1.75, 0.2, 2.0, prompts=256),
    "strong": Scenario("overoptimizing, strong", 1.0, 1.5, 2.0, 0.4, 3.0),
}
FIELDS = {"displacement": 0.1, "proxy-gap": 0.0, "length": 0.25, "repetition": 0.05, "uncertainty": 0.25}
"""What an alarm is about is true from where the course passes its tolerance, or the score its peak."""


def simulate(scenario: Scenario, seed: int) -> Iterator[Evaluation]:
    """A run's evaluations.

    Prompts differ in how well they are answered (variance 0.4) and answers to a prompt too (0.6), so that an answer's
    score has a standard deviation of 1, of which paired differences keep the second part twice. The proxy rises by 0.3
    an evaluation and shares half of the variance with the score. Lengths vary by half of their mean, repetition is
    Beta(0.3, 6) plus its rise, the ensemble's spread is gamma of shape 4; displacement varies by 0.4 nats a token over
    examples, plus a third of its mean.
    """
    draw = np.random.default_rng(seed)
    n = scenario.prompts
    taste, talk = draw.normal(size=n) * 0.4**0.5, draw.lognormal(-0.06, 0.35, n)
    knows = draw.gamma(4, 0.25, n)
    for k in range(EVALUATIONS):
        along, late = scenario.moved(k)
        noise, other = draw.normal(size=(2, n)) * 0.6**0.5
        rise = 0.5 * min(k, PEAK) / PEAK
        lengths = 40 * talk * draw.lognormal(-0.06, 0.35, n)
        repeats, unsure = draw.beta(0.3, 6, n), draw.gamma(8, 1 / 8, n)
        moved, each = scenario.displacement * along, draw.normal(size=EXAMPLES)
        changes = -moved + (0.4 * min(1.0, 4 * moved) + moved / 3) * each
        yield Evaluation(
            k,
            Estimate(float(changes.mean()), float(changes.std(ddof=1)) / EXAMPLES**0.5, EXAMPLES),
            tokens=_named(lengths * (1 + (scenario.length - 1) * late)),
            repetition=_named(np.minimum(1, repeats + scenario.repetition * late)),
            score=_named(taste + noise + rise - scenario.fall * late),
            proxy=_named(taste + (noise + other) / 2**0.5 + 0.3 * k),
            spread=_named(knows * unsure * (1 + (scenario.spread - 1) * late)),
        )


def onset(name: str, scenario: Scenario) -> int | None:
    """First evaluation at which an alarm's matter is true of the course itself; None where it never is."""
    for k in range(1, EVALUATIONS):
        along, late = scenario.moved(k)
        now = {
            "displacement": scenario.displacement * along,
            "proxy-gap": scenario.fall * late,
            "length": (scenario.length - 1) * late,
            "repetition": scenario.repetition * late,
            "uncertainty": (scenario.spread - 1) * late,
        }[name]
        if now > FIELDS[name] + 1e-9:
            return k
    return None


def raised(evaluations: Iterator[Evaluation]) -> dict[str, int]:
    """First evaluation, by its place, at which each alarm was raised."""
    watch, first = Watch(), {}
    for place, evaluation in enumerate(evaluations):
        for alarm in watch.see(evaluation):
            if alarm.raised:
                first.setdefault(alarm.name, place)
    return first


def simulated(runs: int) -> dict[str, Any]:
    """Counts and delays of every scenario."""
    result: dict[str, Any] = {"runs": runs, "scenarios": {}}
    for key, scenario in SCENARIOS.items():
        found = [raised(simulate(scenario, seed)) for seed in range(runs)]
        rows = {}
        for name in ALARMS:
            first = [f[name] for f in found if name in f]
            start = onset(name, scenario)
            row: dict[str, Any] = {"raised": len(first), "onset": start}
            if start is not None:
                row["early"] = sum(f < start for f in first)
                row["delay"] = statistics.median(f - start for f in first) if first else None
            rows[name] = row
        rows["any"] = {"raised": sum(bool(f) for f in found)}
        result["scenarios"][key] = rows
        print(key, {name: row["raised"] for name, row in rows.items()}, file=sys.stderr, flush=True)
    return result


def replay(run: Path) -> dict[str, Any]:
    """What the alarms say of a run folder, from its record alone."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {m["step"]: loss_of(m) for m in lines if m["kind"] == "train"}
    watch, before, rows = Watch(), None, []
    for m in (m for m in lines if m["kind"] == "evaluation"):
        file = run / "samples" / f"step-{m['step']:06d}.jsonl"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        samples = [json.loads(line) for line in text.splitlines()]
        rows += watch.see(evaluation_of(m["step"], m, samples, losses, before))
        before = m["step"]
    first: dict[str, Any] = {}
    for alarm in rows:
        if alarm.raised and not first.get(alarm.name, {}).get("raised"):
            first[alarm.name] = {"raised": True, "step": alarm.step, "value": round(alarm.value, 3)}
        elif not first.get(alarm.name, {}).get("raised"):
            first[alarm.name] = {"raised": False, "step": alarm.step, "value": round(alarm.value, 3)}
    return {"name": run.name, "last": before, "alarms": first}


def tables(record: dict[str, Any]) -> str:
    """Markdown from the record."""
    runs = record["runs"]
    out = [f"{runs} runs a scenario; count, and the rate with its 95% Clopper-Pearson interval.\n"]
    out.append("**False alarms**: raised where the course itself never passes the tolerance.\n")
    out.append("| scenario | " + " | ".join([*ALARMS, "any"]) + " |\n|" + " --- |" * (len(ALARMS) + 2))
    for key in ("healthy", "edge"):
        rows = record["scenarios"][key]
        cells = [_rate(rows[name]["raised"], runs) for name in (*ALARMS, "any")]
        out.append(f"| {SCENARIOS[key].title} | " + " | ".join(cells) + " |")
    out.append(
        "\n**Detections** by the last evaluation, with the median delay after the course passed the tolerance (for"
    )
    out.append(
        f"`proxy-gap`: its peak), in evaluations of {EVALUATIONS - 1}; *early* counts runs that raised before it.\n"
    )
    out.append("| scenario | " + " | ".join(ALARMS) + " |\n|" + " --- |" * (len(ALARMS) + 1))
    for key in ("slight", "clear", "many", "strong"):
        rows = record["scenarios"][key]
        out.append(f"| {SCENARIOS[key].title} | " + " | ".join(_detected(rows[n], runs) for n in ALARMS) + " |")
    if record.get("real"):
        out.append("\n**Real runs**: the step of the first alarm and its value, or what was last said.\n")
        out.append("| run | " + " | ".join(ALARMS) + " |\n|" + " --- |" * (len(ALARMS) + 1))
        for run in record["real"]:
            out.append(f"| {run['name']} | " + " | ".join(_said(run["alarms"].get(n)) for n in ALARMS) + " |")
    return "\n".join(out) + "\n"


def page(record: dict[str, Any]) -> str:
    """docs/alarms.md with its tables as the record gives them."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    return head + BEGIN + "\n" + tables(record) + "\n" + END + rest.split(END)[1]


def _named(values: np.ndarray) -> dict[str, float]:
    return {f"p{i}": v for i, v in enumerate(values.tolist())}


def _rate(count: int, runs: int) -> str:
    interval = proportion_interval(count, runs)
    return f"{count}: {100 * interval.estimate:.1f}% ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _detected(row: dict[str, Any], runs: int) -> str:
    if row["onset"] is None:
        return "–"
    delay = "" if row["delay"] is None else f"; delay {row['delay']:g}"
    early = f"; early {row['early']}" if row["early"] else ""
    return _rate(row["raised"], runs) + delay + early


def _said(said: dict[str, Any] | None) -> str:
    if said is None:
        return "not watched"
    return f"**step {said['step']}**: {said['value']:+.3g}" if said["raised"] else f"quiet: {said['value']:+.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--real", type=Path, nargs="+")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    record = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if options.check:
        if PAGE.read_text(encoding="utf-8") != page(record):
            raise SystemExit(f"{PAGE} is not what {FILE} gives: run python benchmarks/alarms.py --page")
        return
    if options.page:
        PAGE.write_text(page(record), encoding="utf-8")
        return
    if options.real:
        record["real"] = [replay(run) for run in options.real]
    else:
        record = simulated(options.runs) | {"real": record.get("real", [])}
    FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
