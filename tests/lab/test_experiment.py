"""The laboratory end to end on a tiny model: what is made, what is not made again, and golds that fail."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safetyvalve.data import Message, Prompt
from safetyvalve.diagnostics import best_of_n_values
from safetyvalve.errors import DataError, RunError, UsageError
from safetyvalve.lab.experiment import (
    PRESETS,
    LabSettings,
    model_gold,
    recorded_precision,
    report_lab,
    run_lab,
    scorer_gold,
)
from safetyvalve.lab.experiment.pool import Division, divide, ordered_pairs, read_pool
from safetyvalve.lab.experiment.proxy import accuracy, listed, read_proxy, run_folder
from safetyvalve.lab.experiment.stages import stage
from safetyvalve.rewards import load_reward
from safetyvalve.testbed.output import write
from safetyvalve.training import Progress
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS: list[Prompt] = [(Message(role="user", content=f"Q {i}?"),) for i in range(14)]
OTHERS: list[Prompt] = [(Message(role="user", content=f"R {i}?"),) for i in range(4)]
Scorer = Callable[[list[str], list[str]], list[float]]


def letters(prompts: list[str], answers: list[str]) -> list[float]:
    return [sum(map(ord, a)) % 17 + len(a) / 10 for a in answers]


def sometimes(prompts: list[str], answers: list[str]) -> list[float]:
    """Without a score for one answer in about five."""
    return [
        math.nan if sum(map(ord, a)) % 5 == 0 else s for a, s in zip(answers, letters(prompts, answers), strict=True)
    ]


class Killed(BaseException):
    pass


class Dies:
    """A gold during whose second call, on the first policy's samples, the process is ended."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, prompts: list[str], answers: list[str]) -> list[float]:
        self.calls += 1
        if self.calls == 2:
            raise Killed
        return sometimes(prompts, answers)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSettings]:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    small = {"max_new_tokens": 6, "precision": "fp32", "proxy_steps": 1, "steps": 3, "methods": ("bon-mean", "dpo")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFETYVALVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield LabSettings(**{**PRESETS["tiny"], "model": str(folder), **small})


def times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def stopped(settings: LabSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """An experiment that was ended after its first policy was trained, with the times of its files."""
    folder = tmp_path_factory.mktemp("lab") / "one"
    with pytest.raises(Killed):
        run_lab(settings, folder, scorer_gold("letters", Dies()), seeds=[0], prompts=PROMPTS)
    return folder, times(folder)


@pytest.fixture(scope="module")
def finished(settings: LabSettings, stopped: tuple[Path, dict[str, int]]) -> Path:
    folder, _ = stopped
    (folder / "seed-0" / "dpo.jsonl.partial").write_text('{"half')
    run_lab(settings, folder, scorer_gold("letters", sometimes), seeds=[0], prompts=PROMPTS)
    return folder


def test_what_was_finished_is_not_made_again(finished: Path, stopped: tuple[Path, dict[str, int]]) -> None:
    before, after = stopped[1], times(finished)
    assert {"pool.jsonl", "gold.jsonl", "seed-0/proxy.jsonl", "seed-0/dpo/config.yaml"} <= set(before)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"seed-0/dpo.jsonl"}


def test_a_finished_experiment_computes_nothing(settings: LabSettings, finished: Path) -> None:
    before = times(finished)

    def never(prompts: list[str], answers: list[str]) -> list[float]:
        raise AssertionError("scored again")

    run_lab(settings, finished, scorer_gold("letters", never), seeds=[0], prompts=PROMPTS)
    assert times(finished) == before


def test_no_held_out_prompt_is_learned_from(settings: LabSettings, finished: Path) -> None:
    pool = read_pool(finished)
    division = divide(pool, settings, 0)
    assert len(division.held_out) == settings.held_out
    assert not set(division.train) & set(division.held_out)
    measured = {json.loads(line)["prompt_id"] for line in (finished / "seed-0/dpo.jsonl").read_text().splitlines()}
    assert measured == set(division.held_out)
    other = divide(pool, settings, 1)
    assert set(other.held_out) != set(division.held_out)


def test_report(finished: Path, settings: LabSettings, tmp_path: Path) -> None:
    outcome = report_lab(finished)
    write(outcome, tmp_path)
    with (tmp_path / "lab_points_raw.csv").open() as file:
        points = list(csv.DictReader(file))
    assert {p["method"] for p in points} == {"bon-single", "bon-mean", "bon-pessimistic", "dpo"}
    assert [p["strength"] for p in points if p["method"] == "dpo"] == ["0", "1", "2", "3"]
    assert all(
        float(p["gold_gain"]) == pytest.approx(0, abs=1e-12)
        for p in points
        if p["strength"] == "1" and "bon" in p["method"]
    )
    assert (tmp_path / "lab.svg").stat().st_size > 1000
    assert "seeds: 0, finished 0; brackets" in " ".join(outcome.headline)
    unscored = sum(pool_row is None for pool_row in read_pool(finished).gold.values())
    assert unscored > 0 and f"{read_pool(finished).unscored} of 48 answers" in outcome.headline[0]


def test_best_of_n_is_the_estimator_on_answers_joined_by_id(
    finished: Path, settings: LabSettings, tmp_path: Path
) -> None:
    """By hand from the files for one prompt; the order of the files does not matter."""
    pool, n = read_pool(finished), 2
    proxy = read_proxy(finished / "seed-0", settings, pool)
    copy = tmp_path / "shuffled"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("model", "proxy"))
    for name in ("gold.jsonl", "seed-0/proxy.jsonl"):
        lines = (copy / name).read_text().splitlines()
        (copy / name).write_text("\n".join(lines[::-1]) + "\n")
    row = next(r for r in report_lab(copy).raw["lab_prompts"].rows if r[1:3] == ("bon-mean", n))
    answers = [r["response_id"] for r in pool.answers(str(row[3])) if pool.gold[r["response_id"]] is not None]
    gold = [float(pool.gold[a] or 0) for a in answers]
    seen = [float(np.mean(proxy.members[a])) for a in answers]  # type: ignore[arg-type]
    assert row[5] == pytest.approx(best_of_n_values(seen, gold, n) - np.mean(gold))


def test_a_training_that_was_killed_is_resumed(tmp_path: Path) -> None:
    told: list[bool] = []
    run = tmp_path / "dpo"
    run_folder(run, told.append)  # nothing there
    run.mkdir()
    (run / "config.yaml.tmp").write_text("half")
    run_folder(run, told.append)  # killed before its settings were whole
    assert told == [False, False]
    assert not run.exists()
    run.mkdir()
    (run / "config.yaml").write_text("whole")
    run_folder(run, told.append)  # killed later
    (run / "model").mkdir()
    run_folder(run, told.append)  # finished
    assert told == [False, False, True]


def test_policies_without_a_score_are_counted(finished: Path, tmp_path: Path) -> None:
    """A gold that dies on a policy's answers leaves them unscored, and the rest of the report as it was."""
    copy = tmp_path / "dead"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("model", "proxy"))
    rows = [json.loads(line) | {"gold": None} for line in (copy / "seed-0/dpo.jsonl").read_text().splitlines()]
    (copy / "seed-0/dpo.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    outcome, before = report_lab(copy), report_lab(finished)
    assert f"{len(rows)} answers of policies unscored" in " ".join(outcome.headline)
    assert outcome.tables["lab_methods"].rows[:3] == before.tables["lab_methods"].rows[:3]
    assert outcome.tables["lab_methods"].rows[3][4] == "unscored"
    write(outcome, tmp_path / "out")


def test_files_that_do_not_join(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cut"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("model", "proxy"))
    lines = (copy / "gold.jsonl").read_text().splitlines()
    (copy / "gold.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(DataError, match=r"gold\.jsonl: lacks 1 of the answers"):
        report_lab(copy)


def dead(value: float) -> Scorer:
    return lambda prompts, answers: [value] * len(answers)


def fails(prompts: list[str], answers: list[str]) -> list[float]:
    raise ZeroDivisionError("no")


@pytest.mark.parametrize(
    ("scorer", "error", "said"),
    [
        (dead(math.nan), DataError, "scored 0 of"),
        (dead(1.0), DataError, "the score 1, so that it prefers nothing"),
        (fails, UsageError, "failed on .* ZeroDivisionError"),
        (lambda prompts, answers: [1.0], UsageError, "gave 1 scores for"),
    ],
)
def test_a_dead_gold(
    settings: LabSettings, finished: Path, tmp_path: Path, scorer: Scorer, error: type[Exception], said: str
) -> None:
    """Is refused before anything is trained; the pool stays, and a mended gold goes on with it."""
    folder = tmp_path / "lab"
    folder.mkdir()
    for name in ("pool.jsonl", "lab.json"):
        shutil.copy(finished / name, folder / name)
    with pytest.raises(error, match=said):
        run_lab(settings, folder, scorer_gold("letters", scorer), seeds=[0], prompts=PROMPTS)
    assert {p.name for p in folder.iterdir()} == {"pool.jsonl", "lab.json"}


def test_an_experiment_goes_on_in_its_own_precision(settings: LabSettings, finished: Path, tmp_path: Path) -> None:
    """Which need not be what the machine that it is gone on with takes by itself."""
    assert recorded_precision(finished) == settings.precision
    assert recorded_precision(tmp_path) is None
    record = json.loads((finished / "lab.json").read_text())
    record["settings"]["precision"] = "bf16" if settings.precision == "fp32" else "fp32"
    (tmp_path / "lab.json").write_text(json.dumps(record))
    assert recorded_precision(tmp_path) == record["settings"]["precision"]


def test_another_experiment_is_refused(settings: LabSettings, finished: Path, tmp_path: Path) -> None:
    record = (finished / "lab.json").read_text()
    with pytest.raises(RunError, match="another beta, gold"):
        run_lab(replace(settings, beta=0.5), finished, scorer_gold("other", letters), prompts=PROMPTS)
    with pytest.raises(RunError, match="another prompts"):
        run_lab(settings, finished, scorer_gold("letters", letters), prompts=[*PROMPTS[3:], *OTHERS])
    assert (finished / "lab.json").read_text() == record
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no experiment"):
        run_lab(settings, tmp_path, scorer_gold("letters", letters), prompts=PROMPTS)
    with pytest.raises(UsageError, match="14 distinct prompts where 20 are asked for"):
        run_lab(replace(settings, prompts=20), tmp_path / "new", scorer_gold("letters", letters), prompts=PROMPTS)
    assert not (tmp_path / "new").exists()


def test_before_anything_is_scored_the_gold_may_change(settings: LabSettings, tmp_path: Path) -> None:
    settings.check(tmp_path, {"name": "one"}, ["a"])
    settings.check(tmp_path, {"name": "two"}, ["a"])
    assert json.loads((tmp_path / "lab.json").read_text())["gold"] == {"name": "two"}
    replace(settings, methods=("rpo",)).check(tmp_path, {"name": "two"}, ["a"])
    assert json.loads((tmp_path / "lab.json").read_text())["settings"]["methods"] == ["bon-mean", "dpo", "rpo"]


def test_settings_are_checked() -> None:
    for values, said in (
        ({"held_out": 48}, "held_out is 48 of 48"),
        ({"answers": 99}, "answers is 99"),
        ({"methods": ("ppo",)}, "methods are ppo"),
        ({"beta": math.nan}, "beta is nan"),
        ({"labels": 1}, "labels is 1"),
    ):
        with pytest.raises(UsageError, match=said):
            LabSettings(**values)


def test_a_stage_is_whole_or_not_there(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise Killed

    with pytest.raises(Killed):
        stage(tmp_path / "x.jsonl", rows)
    assert stage(tmp_path / "x.jsonl", lambda: [{"a": 2}]) == [{"a": 2}]
    (tmp_path / "x.jsonl").write_text('{"a": 2}\n{"b"')
    with pytest.raises(RunError, match="damaged"):
        stage(tmp_path / "x.jsonl", list)


def test_a_reward_model_as_gold(finished: Path, settings: LabSettings) -> None:
    """The proxy itself: the mean of its members by its record's aggregation, with its run's accuracy."""
    folder = finished / "seed-0" / "proxy"
    gold = model_gold(str(folder), load_reward(str(folder)))
    pool = read_pool(finished)
    rows = [r for r in pool.rows if r["prompt_id"] in pool.prompts][:5]
    members = read_proxy(finished / "seed-0", settings, pool).members
    scores = gold.scores([pool.prompts[r["prompt_id"]] for r in rows], [r["response"] for r in rows])
    assert scores == pytest.approx([np.mean(members[r["response_id"]]) for r in rows], abs=1e-5)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert gold.record["accuracy"] == [m for m in lines if m["kind"] == "evaluation"][-1]["held_out/accuracy"]


def test_differences_are_taken_on_the_same_prompts(finished: Path) -> None:
    outcome = report_lab(finished)
    gains: dict[str, dict[object, float]] = {}
    for method in ("dpo", "bon-mean"):
        rows = [r for r in outcome.raw["lab_prompts"].rows if r[1] == method]
        last = max(int(str(r[2])) for r in rows)
        gains[method] = {r[3]: float(str(r[5])) for r in rows if r[2] == last}
    shared = [n for n in gains["dpo"] if np.isfinite([gains["dpo"][n], gains["bon-mean"].get(n, np.nan)]).all()]
    wanted = np.mean([gains["bon-mean"][n] - gains["dpo"][n] for n in shared])
    (row,) = [r for r in outcome.tables["lab_differences"].rows if r[0] == "bon-mean - dpo"]
    assert str(row[2]).startswith(f"{wanted:+.3f} [")


def test_accuracy_and_pairs(finished: Path, settings: LabSettings) -> None:
    assert ordered_pairs([1.0, None, 3.0, 1.0]) == [(2, 0), (2, 3)]
    assert listed(np.array([[1.0, np.nan], [2.0, 0.0]])) == [[1.0, 2.0], None]
    pool = read_pool(finished)
    proxy = read_proxy(finished / "seed-0", settings, pool)
    proxy.members = {name: None if s is None else [s, s] for name, s in pool.gold.items()}
    everything = Division([], list(pool.prompts))
    assert accuracy(pool, proxy, everything, "mean").share == 1
    proxy.members = {name: None if s is None else [-s, -s] for name, s in pool.gold.items()}
    assert accuracy(pool, proxy, everything, "mean").share == 0


def test_a_pool_that_is_cut_is_gone_on_with(
    settings: LabSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that were drawn before the process died stay as they are, and the pool is the one drawn at once."""
    from safetyvalve.lab.experiment import pool

    def drawn(folder: Path) -> list[dict[str, object]]:
        gold = scorer_gold("letters", letters)
        return pool.make_pool(folder, settings, PROMPTS, gold, Progress(enabled=False)).rows

    whole = drawn(tmp_path / "whole")
    assert not (tmp_path / "whole" / "pool.drawn.jsonl").exists()
    real, budget = pool.draw_pool, 60
    seen: list[tuple[int, int]] = []

    def dies(*args: object, progress: Callable[[int, int], None], **more: object) -> object:
        def told(done: int, total: int) -> None:
            if done:
                raise Killed

        return real(*args, progress=told, token_budget=budget, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pool, "draw_pool", dies)
    with pytest.raises(Killed):
        drawn(tmp_path / "cut")
    kept = (tmp_path / "cut" / "pool.drawn.jsonl").read_text()
    assert kept and not (tmp_path / "cut" / "pool.jsonl").exists()
    monkeypatch.setattr(pool, "draw_pool", lambda *args, **more: seen.append(real(*args, **more)))
    assert drawn(tmp_path / "cut") == whole
    assert seen == [(len(whole) - kept.count("\n"), kept.count("\n"))]
