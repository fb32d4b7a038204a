"""Runs the workloads, both sides alternating, and writes benchmarks/results.json.

    python -m benchmarks.speed [--only NAME ...] [--rounds 3] [--examples N] [--resume] [--out FILE]

Each side lives in a process of its own, waits while the other one runs, and is asked for one round at a time. Rounds
that are done are kept in FILE.partial until their row is recorded, so that --resume goes on where an interrupted run
stopped, as long as the code is the same. A workload's ratio may be 15% below the recorded one on the same processor;
below that the record stays and the exit status is 1. Give it the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.speed.guard import fallen
from benchmarks.speed.record import Rounds, about_machine, code_hash, merged, row_of
from benchmarks.speed.sides import Side
from benchmarks.speed.workloads import HH, WORKLOADS, Workload
from safetyvalve.errors import UsageError

RESULTS = Path(__file__).parents[1] / "results.json"
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(WORKLOADS), help="a workload; repeatable; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each side, after some steps that warm up")
    parser.add_argument("--examples", type=int, help="prompts, fewer than the record's: for development only")
    parser.add_argument("--resume", action="store_true", help="take rounds that were measured before")
    parser.add_argument("--out", type=Path, default=RESULTS, help="what is read, compared with and written")
    parser.add_argument("--hh", type=Path, default=HH, help="test.jsonl.gz of hh-rlhf's harmless-base")
    parser.add_argument("--accept", action="store_true", help="record also what is slower than before")
    options = parser.parse_args()
    if options.examples is not None and options.out == RESULTS:
        parser.error("--examples changes the work, so that it needs an --out of its own")
    recorded = json.loads(options.out.read_text()) if options.out.exists() else {}
    machine = about_machine()
    now = machine | {"code": f"{code_hash()} {options.examples or ''}"}
    partial = Rounds(options.out.with_suffix(".partial"), keep=options.resume, machine=now)
    failed = False
    for name in options.only or WORKLOADS:
        workload = WORKLOADS[name]
        try:
            measure(workload, options.examples or workload.examples, options.rounds, options.hh, partial)
        except UsageError as error:
            sys.exit(str(error))
        row = row_of(workload, partial.of(name))
        print(
            f"{name}: ratio {row['ratio']:.2f} (goal {workload.goal:g}), memory {row['peak_memory_ratio']:.2f}",
            flush=True,
        )
        if said := fallen(name, row, machine, recorded):
            print(said, file=sys.stderr)
            failed = True
            if not options.accept:
                continue
        recorded = merged(recorded, name, row, machine)
        options.out.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        partial.drop(name)
    sys.exit(1 if failed and not options.accept else 0)


def measure(workload: Workload, examples: int, rounds: int, hh: Path, partial: Rounds) -> None:
    """Rounds that are not there yet, one of each side in turn."""
    names = ("ours", workload.peer)
    missing = rounds - len(partial.of(workload.name).get("ours", []))
    if missing <= 0:
        return
    sides = {name: Side(name, workload, examples, hh) for name in names}
    try:
        if len({side.about["data"] for side in sides.values()}) != 1:
            sys.exit(f"{workload.name}: the sides do not have the same data.")
        for number in range(missing + 1):
            done = {name: side.round(warm=number == 0) for name, side in sides.items()}
            text = ", ".join(f"{n} {d['seconds']:.1f} s" for n, d in done.items())
            print(f"{workload.name} {'warm-up' if number == 0 else f'round {number}'}: {text}", flush=True)
            if number:
                for name, figures in done.items():
                    partial.add(workload.name, name, figures, sides[name].about)
    finally:
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    main()
