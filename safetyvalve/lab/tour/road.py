"""The steps of the tour, each a command of ours in a process of its own, printed before it runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from safetyvalve.errors import RunError
from safetyvalve.lab.tour.annotators import Judged, judge_all
from safetyvalve.lab.tour.material import CONTROL, RELEASE, answer_rows, write_answers, write_observations

__all__ = ["COMMAND", "Road", "travel"]

COMMAND = (sys.executable, "-c", "import sys; from safetyvalve.cli import main; sys.exit(main())")
"""Starts the command line in a process of its own."""
_PAUSED = (0, 10, 11, 12)
"""Exit statuses of `safetyvalve release` that are answers, not mistakes."""
_WAITS = 10
"""The one among them that says that only a person's approval is missing."""
_PEOPLE = 4
_TICKETS = {"en": ("tickets.csv", "current", "rpo"), "ja": ("tickets_ja.csv", "現行", "新方式")}
"""The example's file, and what it calls the old and the new system."""
_REMARK = {
    "en": "This is a tour. The annotators are scripted: a rubric with noise, no people. Tickets and harm are made up, "
    "and nobody looked before approving. Only the training and the models' answers are real.",
    "ja": "これは一通りの流れを示すための実行です。評価者はプログラム（採点基準に雑音を加えたもの）で、"
    "人ではありません。問い合わせ記録と有害事象は架空であり、承認の前に確認した人もいません。"
    "実際のものは学習とモデルの回答だけです。",
}


class Road(NamedTuple):
    """Sizes of the tour.

    Args:
        model: that is trained.
        steps: optimizer steps of DPO and of RPO each.
        prompts: held-out prompts that are answered and judged, half of them a stage.
        units: simulated observations a stage and variant.
        lang: of everything that people read.
        seed: of training and of the annotators' noise.
    """

    model: str = "smollm2-135m"
    steps: int = 24
    prompts: int = 96
    units: int = 1500
    lang: str = "en"
    seed: int = 0


def travel(output: Path, road: Road, say: Callable[[str], object]) -> Path:
    """Go the whole road in ``output``; returns the decision report.

    Raises:
        RunError: the folder holds something already, or a command failed.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunError(f"output folder '{output}' is not empty; nothing was changed. Name a new one with --output.")
    output.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    tour = _Tour(output, road, say)
    with as_file(files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl")) as data:
        tour.look_at_data(data)
        tour.train(data)
    tour.diagnose()
    tour.prepare_release()
    for stage, paired in (("shadow", True), ("pilot", False)):
        if not tour.go_through(stage, paired=paired):
            break
    page = tour.report()
    say(f"the tour took {(time.perf_counter() - began) / 60:.1f} minutes; its page: {page}")
    return page


class _Tour:
    def __init__(self, output: Path, road: Road, say: Callable[[str], object]) -> None:
        self.output, self.road, self.say = output, road, say
        self.runs = {name: output / name for name in ("dpo", "rpo")}
        self.release, self.votes = output / "release", list[Path]()

    def look_at_data(self, data: Path) -> None:
        self.title("Are the data sound, and is more of them worth it?")
        self.run("data", "check", data)
        self.run("plan", "--data", data, "--win-rate", 0.6, "--draws", 4, *self.lang, "--output", self.output / "plan")

    def train(self, data: Path) -> None:
        self.title("DPO and RPO on the same comparisons, scored by the rubric that drew them")
        half = max(1, self.road.steps // 2)
        self.run(
            *("reward", "train", "--data", data, "--model", self.road.model, "--output", self.output / "proxy"),
            *("--members", 3, "--freeze", "--steps", 16, "--prompts-per-step", 8, "--held-out", 256),
            *("--held-out-examples", 32, "--seed", self.road.seed),
        )
        for name, run in self.runs.items():
            self.run(
                *("train", "--data", data, "--model", self.road.model, "--objective", name, "--output", run),
                *("--held-out", 256, "--steps", self.road.steps, "--prompts-per-step", 4, "--learning-rate", 2e-4),
                *("--beta", 0.01, "--token-budget", 4096, "--eval-every", half, "--held-out-examples", 32),
                *("--sample-prompts", self.road.prompts, "--samples-per-prompt", 1, "--max-new-tokens", 48),
                *("--scorer", "quickstart-rubric", "--proxy", self.output / "proxy", "--seed", self.road.seed),
                *self.lang,
            )

    def diagnose(self) -> None:
        self.title("Did a run overoptimize? From the independent score, never from the learned one alone")
        self.run("diagnose", *self.runs.values())

    def prepare_release(self) -> None:
        self.title("A release in stages: margins are fixed before there is any evidence")
        self.run(
            *("release", "init", self.release, "--candidate", "rpo", "--control", CONTROL, "--trainer", "tour-trainer"),
        )
        (self.release / "release.yaml").write_text(RELEASE, encoding="utf-8")
        self.rows = answer_rows(self.runs)

    def go_through(self, stage: str, *, paired: bool) -> bool:
        """Judge, record, approve, decide; whether the release went on."""
        self.title(f"Stage {stage}: judged in the real app by scripted annotators, who are no people")
        half = len(self.rows) // 2
        answers, votes = self.output / f"answers-{stage}.jsonl", self.output / f"votes-{stage}"
        rows = self.rows[:half] if paired else self.rows[half:]
        write_answers(rows, answers)
        database = self.output / f"annotate-{stage}.db"
        judged = self.judge(answers, database)
        self.say(f"votes: {dict(judged.votes)}, corrections: {judged.corrections}")
        self.run("annotate", "export", votes, "--db", database)
        self.run("stats", votes / "verdicts.jsonl")
        self.votes.append(votes)
        observed = self.output / f"observations-{stage}.csv"
        write_observations(
            observed, stage, datetime.now(UTC), rows, units=self.road.units, paired=paired, seed=self.road.seed
        )
        self.run("release", "record", self.release, observed, votes / "verdicts.jsonl", accepted=_PAUSED)
        status = self.run("release", "status", self.release, *self.lang, accepted=_PAUSED)
        if status == _WAITS:
            reason = f"gates of {stage} pass (scripted: nobody looked)"
            self.run("release", "approve", self.release, "--approver", "tour-approver", "--reason", reason)
        return self.run("release", "decide", self.release, *self.lang, accepted=_PAUSED) == 0

    def judge(self, answers: Path, database: Path) -> Judged:
        with self.serving("annotate", "serve", answers, "--db", database, "--overlap", 2, "--port", 0) as links:
            return judge_all(links, seed=self.road.seed)

    def report(self) -> Path:
        self.title("What it is worth, from ticket files that nobody wrote; and the page for who decides")
        example, verdicts = self.output / "tickets", [v / "verdicts.jsonl" for v in self.votes]
        self.run("roi", "--example", example, *self.lang)
        tickets, control, treatment = _TICKETS[self.road.lang]
        people = [*_each("--verdicts", verdicts), "--candidate", "rpo", "--baseline", CONTROL]
        common = [example / tickets, "--control", control, "--treatment", treatment, *people]
        self.run(
            *("kpi", *common, *_each("--evaluation", self.votes), "--run", self.runs["rpo"], *self.lang),
            *("--output", self.output / "kpi"),
        )
        self.run(
            *("roi", *common, "--design", "randomised", "--unit", "customer", "--assumptions"),
            # A program's minutes are no labour; these hours are made up like the tickets.
            *(example / "assumptions.yaml", "--set", "evaluation_hours=40", *self.lang),
            *("--output", self.output / "roi"),
        )
        page = self.output / "decision.html"
        self.run(
            *("decision", self.runs["rpo"], self.runs["dpo"], "--release", self.release),
            *("--kpi", self.output / "kpi" / "kpi.json"),
            *("--roi", self.output / "roi" / "roi.json", "--plan", self.output / "plan" / "plan.json"),
            *("--remark", _REMARK[self.road.lang], "--output", page, *self.lang),
        )
        return page

    @property
    def lang(self) -> tuple[str, str]:
        return ("--lang", self.road.lang)

    def title(self, text: str) -> None:
        self.say(f"\n== {text}")

    def run(self, *words: object, accepted: Sequence[int] = (0,)) -> int:
        """A command, its output shown as it comes."""
        self.show(words)
        status = subprocess.run([*COMMAND, *map(str, words)], check=False).returncode
        if status not in accepted:
            raise RunError(f"`safetyvalve {words[0]}` ended with status {status}; see what it said above.")
        return status

    def show(self, words: Sequence[object]) -> None:
        self.say(f"$ safetyvalve {shlex.join(map(str, words))}")

    @contextmanager
    def serving(self, *words: object) -> Iterator[list[str]]:
        """The labelling server while it runs, as its annotators' invite links."""
        command = [*map(str, words), "--invite", str(_PEOPLE)]
        self.show(command)
        with subprocess.Popen([*COMMAND, *command], stdout=subprocess.PIPE, text=True) as server:
            try:
                links: list[str] = []
                for line in server.stdout or ():
                    found = re.match(r"annotator link, works once: (\S+)", line)
                    links += [found[1]] if found else []
                    if len(links) == _PEOPLE:
                        break
                if len(links) < _PEOPLE:
                    raise RunError("the labelling server did not start; see what it said above.")
                yield links
            finally:
                server.terminate()


def _each(option: str, values: Sequence[object]) -> list[object]:
    return [word for value in values for word in (option, value)]
