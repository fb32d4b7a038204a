"""Write docs/cli.md from the commands' own help; ``--check`` says whether it is up to date."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
COMMANDS = [
    [],
    ["quickstart"],
    ["init"],
    ["doctor"],
    ["data", "check"],
    ["train"],
    ["resume"],
    ["report"],
    ["decision"],
    ["plan"],
    ["annotate", "serve"],
    ["annotate", "export"],
    ["annotate", "import"],
    ["annotate", "verify"],
    ["annotate", "forget"],
    ["annotate", "plan"],
    ["judge"],
    ["stats"],
    *(["release", name] for name in ("init", "status", "record", "decide", "approve", "rollback", "simulate")),
    ["kpi"],
    ["roi"],
    ["testbed"],
]


def page() -> str:
    """The page's text: each command's help at 100 columns."""
    parts = ["# Command line\n\nWritten by `python docs/make_cli_page.py` from each command's `--help`.\n"]
    code = "from safetyvalve.cli import main; raise SystemExit(main())"
    environment = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for command in COMMANDS:
        call = [sys.executable, "-c", code, *command, "--help"]
        text = subprocess.run(call, capture_output=True, text=True, check=True, env=environment).stdout
        text = "\n".join(line.rstrip() for line in text.replace("Usage: -c", "Usage: safetyvalve").strip().splitlines())
        parts.append(f"## `{' '.join(['safetyvalve', *command])}`\n\n```\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != page():
            sys.exit("docs/cli.md is not what --help says; run `python docs/make_cli_page.py`.")
    else:
        PAGE.write_text(page(), encoding="utf-8")
