"""``safetyvalve convert``: answers and verdicts to and from the files of AlpacaEval and MT-Bench."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

__all__ = ["convert"]


def convert(
    sources: list[str] = typer.Argument(
        help="Verdict files to turn into ours; or answers, as `safetyvalve judge` takes them.", show_default=False
    ),
    to: Literal["verdicts", "alpaca-eval", "mt-bench"] = typer.Option(..., help="Form to write."),
    output: Path = typer.Option(..., help="File (verdicts) or folder (the others) to write.", show_default=False),
    verdicts: Path | None = typer.Option(None, help="Verdicts on the answers, to be written with them."),
    rater_kind: Literal["human", "judge", "rubric", "reward"] = typer.Option(
        "judge", help="Whose verdicts AlpacaEval's annotations are, which do not say it."
    ),
    turn: Literal["1", "2"] = typer.Option("1", help="Of MT-Bench's conversations."),
    first_samples: bool = typer.Option(
        False, "--first-samples", help="Write only the first of several answers to a prompt."
    ),
) -> None:
    """Exchange answers and verdicts with AlpacaEval and MT-Bench (FastChat).

    `--to verdicts` reads annotations.json, model_judgment/*.jsonl or an MT-Bench folder. The other two write answers of
    runs and files, and the verdicts on them, as those programs read them.
    """
    from safetyvalve.errors import UsageError
    from safetyvalve.judges import read_answers, save_verdicts
    from safetyvalve.judges.convert import read_verdict_file, write_alpaca_eval, write_mt_bench

    if to == "verdicts":
        if verdicts is not None:
            raise UsageError("--verdicts goes with answers; with --to verdicts name the files themselves.")
        found = [v for source in sources for v in read_verdict_file(Path(source), rater_kind=rater_kind)]
        written = save_verdicts(output, found)
        print(
            f"written: {written.added} records to {output}"
            + (f"; {written.present} were there" if written.present else "")
        )
        return
    answers = read_answers(sources, turn=int(turn))
    if first_samples:
        answers = [a for a in answers if a.sample == 0]
    given = read_verdict_file(verdicts) if verdicts else []
    done = (write_alpaca_eval if to == "alpaca-eval" else write_mt_bench)(output, answers, given)
    for file in done.files:
        print(file)
    if given:
        print(f"verdicts: {done.verdicts} written, {done.left_out} on other pairs left out")
