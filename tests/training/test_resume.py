"""A run that was stopped goes on as if it never had been, wherever it was stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from safetyvalve.errors import RunError, RunInterrupted
from safetyvalve.training import (
    Checkpointing,
    DataSource,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    PolicyTrainer,
    Progress,
    RunFolder,
    RunSettings,
    checkpoints,
    resume_training,
    run_training,
)
from tests.tiny import tiny_model, tiny_tokenizer

STEPS = 7
TIMES = {"seconds", "resident_gib", "tokens_per_second"}


class StoppedError(Exception):
    """As if the process had ended here."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model and data; 12 examples to train on, so that the run passes the end of an epoch."""
    folder = tmp_path_factory.mktemp("source")
    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    rows = [{"prompt": f"質問 {i}?", "chosen": f"答え {i}。", "rejected": "No " * (1 + i % 4)} for i in range(16)]
    (folder / "data.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    os.environ["SAFETYVALVE_CACHE"] = str(folder / "cache")
    return folder


@pytest.fixture(autouse=True)
def own_cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(source / "cache"))


def settings(source: Path, every: int = 2) -> RunSettings:
    return RunSettings(
        name="tiny",
        source=DataSource(source / "data.jsonl", held_out=4),
        model=ModelSource(str(source / "model")),
        objective=Objective("rpo", beta=0.1, eta=0.2),
        optimization=Optimization(
            steps=STEPS, prompts_per_step=4, learning_rate=1e-3, precision="fp32", schedule="cosine"
        ),
        observation=Observation(every=3, held_out_examples=4, prompts=2, samples_per_prompt=2, max_new_tokens=5),
        checkpointing=Checkpointing(every),
    )


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stopped."""
    output = tmp_path_factory.mktemp("whole") / "run"
    run_training(settings(source), output)
    return output


def record(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in m.items() if k not in TIMES} for m in lines]


def assert_same(run: Path, whole: Path) -> None:
    """Bitwise: weights, every metric, every sample."""
    assert record(run) == record(whole)
    ours, theirs = (load_file(f / "model" / "model.safetensors") for f in (run, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    names = sorted(f.name for f in (whole / "samples").iterdir())
    assert sorted(f.name for f in (run / "samples").iterdir()) == names
    assert all((run / "samples" / n).read_text() == (whole / "samples" / n).read_text() for n in names)
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5, 6])
def test_stopped_in_a_step(
    step: int, source: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a first checkpoint, right after one, past an evaluation, past the end of an epoch."""
    real = PolicyTrainer.training_step

    def stops(self: PolicyTrainer, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)  # gradients are there, the weights have not moved
        if self.state.global_step == step:
            raise StoppedError
        return result

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(PolicyTrainer, "training_step", stops)
        run_training(settings(source), run)
    assert checkpoints.last_checkpoint(run / "checkpoints") == (
        run / "checkpoints" / f"checkpoint-{step - step % 2}" if step > 1 else None
    )
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "st')  # a line cut short
    resume_training(run, lambda name: None)
    assert_same(run, whole)


def test_stopped_twice(source: Path, whole: Path, tmp_path: Path) -> None:
    """Ctrl-C: the step is finished, saved, and said."""
    run, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    for step, go in (
        (2, lambda p: run_training(settings(source, 0), run, progress=p)),
        (5, lambda p: resume_training(run, lambda name: None, progress=p)),
    ):
        with pytest.raises(RunInterrupted, match=rf"step {step} of {STEPS}.*resume {run}"):
            go(Interrupting(step))
        assert [p.name for p in (run / "checkpoints").iterdir()] == [f"checkpoint-{step}"]
    assert signal.getsignal(signal.SIGINT) is before
    resume_training(run, lambda name: None)
    assert_same(run, whole)


class Interrupting(Progress):
    """Presses Ctrl-C when a step ends."""

    def __init__(self, step: int) -> None:
        super().__init__(enabled=False)
        self.at = step

    def step(self, done: int) -> None:
        if done == self.at:
            signal.raise_signal(signal.SIGINT)


_CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from transformers import PreTrainedTokenizerBase
from safetyvalve.training import PolicyTrainer, run_training, trainer
from tests.training.test_resume import settings

torch.set_num_threads(1)
where, source, run = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def once(owner, name, when):
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: kill() if when(*args) else real(*args, **kwargs))

if where == "step":  # in the backward pass
    real = PolicyTrainer.terms
    def terms(self, *args):
        of_batch = real(self, *args)
        if self.state.global_step == 5:
            of_batch.sft.register_hook(kill)
        return of_batch
    PolicyTrainer.terms = terms
elif where == "weights":  # the checkpoint's weights are written, its optimizer is not
    once(PolicyTrainer, "_save_optimizer_and_scheduler", lambda self, folder: self.state.global_step == 4)
elif where == "rename":  # everything is written, the checkpoint has no place yet
    once(trainer, "publish", lambda written, folder: written.name.endswith("-4"))
elif where == "model":  # the weights are written, the tokenizer is not
    once(PreTrainedTokenizerBase, "save_pretrained", lambda self, folder: "model.tmp" in str(folder))
run_training(settings(source), run)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("where", "left"), [("step", 4), ("weights", 2), ("rename", 2), ("model", 6)])
def test_killed(where: str, left: int, source: Path, whole: Path, tmp_path: Path) -> None:
    """kill -9 in mid-backward, in mid-save of a checkpoint, and in mid-save of the model."""
    run = tmp_path / "run"
    child = subprocess.run([sys.executable, "-c", _CHILD, where, str(source), str(run)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert not (run / "model").exists()
    last = checkpoints.last_checkpoint(run / "checkpoints")
    assert last is not None and last.name == f"checkpoint-{left}"
    resume_training(run, lambda name: None)
    assert_same(run, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 6 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("free", [10_000, 60_000, 120_000, 250_000])
def test_full_disk(free: int, source: Path, whole: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever file finds no room, the last good checkpoint stays, and the run goes on from it."""
    run = small_disk / "run"
    filler = small_disk / "filler"
    real = checkpoints.staging

    def fill(folder: Path) -> Path:
        if (folder / "checkpoint-2").exists() and not filler.exists():
            filler.write_bytes(b"\0" * (shutil.disk_usage(small_disk).free - free))
        return real(folder)

    monkeypatch.setattr("safetyvalve.training.trainer.staging", fill)
    with pytest.raises(RunError, match=r"disk of '.*checkpoints' is full.*step 4.*safetyvalve resume"):
        run_training(settings(source), run)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["checkpoint-2"]
    filler.unlink()
    monkeypatch.setattr("safetyvalve.training.trainer.staging", real)
    resume_training(run, lambda name: None)
    assert_same(run, whole)


def test_full_disk_for_the_record(small_disk: Path) -> None:
    folder = RunFolder(small_disk / "run")
    folder.append_metrics({"kind": "train", "step": 1})
    (small_disk / "filler").write_bytes(b"\0" * shutil.disk_usage(small_disk).free)
    with pytest.raises(RunError, match=r"full.*metrics\.jsonl"):
        folder.append_metrics({"kind": "train", "step": 2, "text": "x" * 100_000})
    assert folder.metrics() == [{"kind": "train", "step": 1}]


@pytest.mark.parametrize("changed", ["data", "model", "finished", "nothing", "busy"])
def test_refused(changed: str, source: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if changed == "nothing":
        run.mkdir()
        message = "no config.yaml"
    elif changed == "finished":
        run, message = whole, "is finished"
    else:
        shutil.copytree(source, tmp_path / "source")
        with pytest.raises(RunInterrupted):
            run_training(settings(tmp_path / "source"), run, progress=Interrupting(3))
        if changed == "data":
            text = (tmp_path / "source" / "data.jsonl").read_text()
            (tmp_path / "source" / "data.jsonl").write_text(text.replace("答え 3", "答え 30"))
            message = "data file .* has changed"
        elif changed == "model":
            tiny_model(seed=1).save_pretrained(tmp_path / "source" / "model")
            message = "model that training started from .* has changed"
        else:
            held = RunFolder(run, resume=True)
            message = "written by another process"
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    with pytest.raises(RunError, match=message):
        resume_training(run, lambda name: None)
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before
    if changed == "busy":
        held.close()


def test_settings_come_back(source: Path) -> None:
    for objective in (Objective("dpo"), Objective("sft"), Objective("rpo", reduction="sequence_mean")):
        given = RunSettings(name="x", source=DataSource(Path("data.jsonl")), objective=objective, scorer="m:f")
        assert RunSettings.of(given.flat()) == given
    hub = RunSettings(name="x", source=DataSource("org/name:train", encoding="cp932"))
    assert RunSettings.of(hub.flat()) == hub
