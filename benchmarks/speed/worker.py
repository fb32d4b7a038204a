"""One side of one workload in a process of its own: prepares itself, then runs a round whenever it is told to.

Speaks JSON, a line a message: says ``ready``, answers ``warm`` and ``run`` with the figures of a few steps and of a
round, and ends at anything else. Everything else that a library prints goes to the error stream.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

__all__ = ["main"]

WARM_STEPS = 2
"""Steps after which memory is where it stays and every kernel has run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["ours", "trl", "padded"])
    parser.add_argument("workload")
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--hh", type=Path, required=True)
    parser.add_argument("--keep-freed-memory", action="store_true", help="what our command line does, for this side")
    options = parser.parse_args()
    said = _own_stdout()
    if options.keep_freed_memory:
        from safetyvalve.cli.allocator import keep_freed_memory

        keep_freed_memory()
    side = _side(options)
    _say(said, {"ready": True, **side.about})
    for line in sys.stdin:
        if line.strip() not in ("run", "warm"):
            break
        _say(said, side.round(WARM_STEPS if line.strip() == "warm" else None))


def _side(options: argparse.Namespace) -> Any:
    from benchmarks.speed.workloads import WORKLOADS

    workload = WORKLOADS[options.workload]
    if options.side == "trl":
        from benchmarks.speed.trl_side import trl_side

        return trl_side(workload, options.examples, options.hh)
    from benchmarks.speed.our_side import our_side

    return our_side(workload, options.examples, options.hh, padded=options.side == "padded")


def _own_stdout() -> TextIO:
    """The real standard output; what anybody else writes there goes to the error stream from now on."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return own


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
