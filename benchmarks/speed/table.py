"""Renders the table of docs/performance.md from benchmarks/results.json.

python -m benchmarks.speed.table [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.record import rows_of
from benchmarks.speed.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "results.json"
_GOALS = {"fp32": 0.72, "bf16": 0.5}
"""Least utilisation."""
BEGIN, END = "<!-- results: python -m benchmarks.speed.table -->", "<!-- end of results -->"


def table(results: dict[str, Any]) -> str:
    """Markdown of all rows that were measured."""
    lines = [
        "| work | machine | ours | peer | ratio (spread) | goal | peak memory, ours : peer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    machines: list[str] = []
    rows = [(name, row) for name in WORKLOADS for row in rows_of(results, name)]
    for name, row in rows:
        workload = WORKLOADS[name]
        low, high = row["spread"]["ratio"]
        memory = [row["peak_memory"][side] / 2**30 for side in ("ours", "peer")]
        peer = "TRL" if workload.peer == "trl" else "ours, plain"
        work = f"{workload.what}, {workload.precision} (`{name}`, {row['units']} {workload.unit}s)"
        ratio = f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})"
        gib = f"{memory[0]:.1f} : {memory[1]:.1f} GiB ({row['peak_memory_ratio']:.2f})"
        if (machine := _machine(row)) not in machines:
            machines.append(machine)
        number = str(machines.index(machine) + 1)
        sides = (f"{row['ours']:.2f} s", f"{peer}: {row['peer']:.2f} s")
        cells = (work, number, *sides, ratio, f"{workload.goal:g}", gib)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Seconds a unit: medians of {_all({row['rounds'] for _, row in rows})} alternating rounds after warm-up.",
        "",
    ]
    lines += [f"{number}. {machine}" for number, machine in enumerate(machines, start=1)]
    return "\n".join([*lines, "", *_utilisation(results, machines)])


def _machine(row: dict[str, Any]) -> str:
    hardware, versions = row["hardware"], row["versions"]
    name = ", ".join(filter(None, (hardware["processor"], hardware.get("generation"))))
    return (
        f"{name}, {hardware['cores']} cores, {', '.join(hardware['instructions'])}, {row['threads']} threads, kernels "
        f"{hardware['kernels']}; {', '.join(f'{k} {v}' for k, v in versions.items())}."
    )


def _utilisation(results: dict[str, Any], machines: list[str]) -> list[str]:
    lines = []
    for precision, goal in _GOALS.items():
        for row in rows_of(results, f"hh_pairs_{precision}"):
            spread = row["spread"].get("utilisation")  # rows of before had one peak for all rounds
            between = f" ({spread[0]:.2f} to {spread[1]:.2f}), measured between the steps" if spread else ""
            lines.append(
                f"Utilisation in {precision} on machine {machines.index(_machine(row)) + 1}: "
                f"**{row['utilisation']:.2f}**{between}, of a GEMM peak of {row['gemm_peak'] / 1e9:,.0f} GFLOP a "
                f"second (goal {goal:g})."
            )
    return lines


def _all(values: set[int]) -> str:
    return " or ".join(map(str, sorted(values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the page is not so")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    new = f"{before}{BEGIN}\n{table(json.loads(RESULTS.read_text()))}\n{END}{after}"
    if new == page:
        return
    if options.check:
        sys.exit(f"{PAGE} does not show {RESULTS}. Run python -m benchmarks.speed.table.")
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
