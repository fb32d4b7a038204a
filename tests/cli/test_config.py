"""``train --config``: every option is a key, the command line wins, and a run's own config.yaml repeats the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from safetyvalve.cli import app, main
from safetyvalve.cli.configured import RECORDED, options_of
from safetyvalve.precision import settled
from safetyvalve.training import RunSettings
from tests.tiny import TEMPLATE, tiny_model, tiny_tokenizer

commands: Any = typer.main.get_command(app)
OPTIONS = options_of(commands.commands["train"])
NO_SETTING = {"output"}
"""Where the run goes; the same settings make another run elsewhere."""

OTHER: dict[str, Any] = {
    "data": "other.jsonl",
    "model": "some/model",
    "format": "pair",
    "max_drop": 0.2,
    "held_out": 7,
    "split_seed": 3,
    "max_examples": 9,
    "max_length": 99,
    "on_long": "drop",
    "chat_template": "chat.jinja",
    "trust_remote_code": True,
    "allow_pickle": True,
    "objective": "dpo",
    "beta": 1e-5,
    "eta": 0.3,
    "reduction": "sequence_mean",
    "label_smoothing": 0.1,
    "steps": 7,
    "prompts_per_step": 3,
    "learning_rate": 1e-7,
    "warmup_share": 0.25,
    "schedule": "cosine",
    "max_grad_norm": 0.5,
    "weight_decay": 0.01,
    "precision": "fp32" if settled("auto") == "bf16" else "bf16",
    "engine": "padded",
    "memory": "low",
    "token_budget": 333,
    "seed": 5,
    "eval_every": 4,
    "held_out_examples": 11,
    "sample_prompts": 2,
    "samples_per_prompt": 5,
    "max_new_tokens": 12,
    "checkpoint_every": 6,
    "sample_from": "serving",
    "proxy": "runs/reward-1",
    "held_out_member": "runs/reward-2",
    "scorer": "quickstart-rubric",
    "report_to": ["tensorboard"],
    "lang": "ja",
    "encoding": "cp932",
    "serving_prompts": "prompts.jsonl",
    "encoder": "some/encoder",
    "baseline": "all-responses",
    "sft_data": "sft.jsonl",
    "sft_prompts_per_step": 3,
    "baseline_samples": 5,
    "baseline_max_tokens": 17,
    "baseline_column": "answers",
    "allow_uncovered": True,
    "fine_tune": "lora",
    "lora_rank": 3,
    "lora_alpha": 5,
    "lora_targets": "q_proj",
    "merge": True,
    "save_dtype": "bf16",
    "algorithm": "maximin",
    "reward": "some/reward",
    "adversary_eta": 0.3,
    "reward_range": 2.5,
    "policy_samples": 6,
    "policy_max_tokens": 33,
    "reward_learning_rate": 1e-7,
    "max_displacement": 0.05,
    "select": "independent",
    "stop_on": ["length"],
    "patience": 2,
}
"""A value other than the default for each option; a new option needs one."""

NEEDS = {
    "sample_from": ["--serving-prompts", "prompts.jsonl"],
    "sft_data": ["--baseline", "sft-data"],
    "sft_prompts_per_step": ["--baseline", "sft-data", "--sft-data", "sft.jsonl"],
    "baseline_samples": ["--baseline", "reference-samples"],
    "baseline_max_tokens": ["--baseline", "reference-samples"],
    "baseline_column": ["--baseline", "column"],
    "algorithm": ["--reward", "some/reward"],
    "reward": ["--algorithm", "maximin"],
    **{
        key: ["--algorithm", "maximin", "--reward", "some/reward"]
        for key in ("adversary_eta", "reward_range", "policy_samples", "policy_max_tokens", "reward_learning_rate")
    },
    **{key: ["--scorer", "quickstart-rubric"] for key in ("select", "patience")},
    **{key: ["--fine-tune", "lora"] for key in ("lora_rank", "lora_alpha", "lora_targets", "merge")},
}
"""What an option has no meaning without."""


class Stopped(Exception):  # noqa: N818
    """Instead of training: carries the settings."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What a command line would train with, as config.yaml would hold it."""

    def stop(given: RunSettings, *_: Any, **__: Any) -> None:
        raise Stopped(given.flat())

    monkeypatch.setattr("safetyvalve.training.run_training", stop)
    monkeypatch.chdir(tmp_path)

    def of(*arguments: object) -> dict[str, Any]:
        with pytest.raises(Stopped) as caught:
            main(["train", *map(str, arguments)])
        found: dict[str, Any] = caught.value.args[0]
        return found

    return of


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["train", *map(str, arguments)]) == 2
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - NO_SETTING))
def test_every_option_is_saved_and_read_back(name: str, settings: Callable[..., dict[str, Any]]) -> None:
    assert name in OTHER, f"give OTHER a value of the new option '{name}' that is not its default"
    value = OTHER[name]
    option = OPTIONS[name].opts[0]
    words = [option] if value is True else [option, value[0] if isinstance(value, list) else value]
    saved = settings("--data", "x.jsonl", *NEEDS.get(name, []), *words)
    assert saved[name] == value
    assert value != settings("--data", "x.jsonl")[name]
    Path("saved.yaml").write_text(yaml.safe_dump(saved, allow_unicode=True))
    assert settings("--config", "saved.yaml") == saved


def test_every_key_is_an_option(settings: Callable[..., dict[str, Any]]) -> None:
    assert settings("--data", "x.jsonl").keys() - RECORDED == OPTIONS.keys() - NO_SETTING


def test_the_command_line_wins(settings: Callable[..., dict[str, Any]]) -> None:
    Path("run.yaml").write_text("data: a.jsonl\nbeta: 0.2\nsteps: 9\nreport_to: [tensorboard]\n")
    found = settings("--beta", "0.3", "--config", "run.yaml", "--report-to", "mlflow")
    assert (found["data"], found["beta"], found["steps"], found["report_to"]) == ("a.jsonl", 0.3, 9, ["mlflow"])


def test_the_output_of_a_file_is_taken(settings: Callable[..., dict[str, Any]]) -> None:
    Path("run.yaml").write_text("data: a.jsonl\noutput: runs/mine\n")
    assert settings("--config", "run.yaml")["name"] == "mine"


def test_another_objective_leaves_the_coefficients_of_the_first(
    settings: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.yaml").write_text("data: a.jsonl\neta: 0.1\nbeta: 0.2\n")
    found = settings("--config", "run.yaml", "--objective", "dpo")
    assert (found["objective"], found["eta"], found["beta"]) == ("dpo", None, 0.2)
    assert "run.yaml:2: eta is left out" in capsys.readouterr().err
    assert "eta 0.3 has no meaning" in refusal(capsys, "--config", "run.yaml", "--objective", "dpo", "--eta", "0.3")
    Path("run.yaml").write_text("data: a.jsonl\nobjective: dpo\neta: 0.1\n")
    assert "run.yaml:3: eta 0.1 has no meaning for the objective 'dpo'" in refusal(capsys, "--config", "run.yaml")


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ("stepz: 1", ["run.yaml:2:", "'stepz'", "'steps'"]),
        ("beta: -1", ["run.yaml:2:", "beta is -1"]),
        ("eta: lots", ["run.yaml:2:", "--eta is 'lots'"]),
        ("eval_every: 0", ["run.yaml:2:", "eval_every is 0"]),
        ("lang: fr", ["run.yaml:2:", "lang", "'fr'"]),
        ("report_to: [tensorbord]", ["run.yaml:2:", "'tensorbord'", "tensorboard, wandb"]),
        ("config: other.yaml", ["'config'"]),
    ],
)
def test_a_refusal_names_file_and_line(
    line: str, fragments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(f"data: a.jsonl\n{line}\n")
    message = refusal(capsys, "--config", "run.yaml")
    assert all(f in message for f in fragments), message


def test_what_the_command_line_decides_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("data: a.jsonl\nbeta: 0.1\n")
    assert "run.yaml" not in refusal(capsys, "--config", "run.yaml", "--beta", "-1")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data.jsonl and a tiny model in model/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": f"質問 {i}", "chosen": "はい。" * (1 + i % 3), "rejected": "No."} for i in range(24)]
    Path("data.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    tiny_model().save_pretrained("model")
    tiny_tokenizer().save_pretrained("model")
    return tmp_path


def figures(run: str) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock and the process's memory decide."""
    rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in ("seconds", "tokens_per_second", "resident_gib")} for r in rows]


@pytest.mark.parametrize("objective", ["rpo", "dpo"])
def test_a_saved_configuration_repeats_the_run(tiny: Path, objective: str) -> None:
    Path("chat.jinja").write_text(TEMPLATE)
    short = ["--steps", "3", "--prompts-per-step", "4", "--eval-every", "2", "--sample-prompts", "2", "--seed", "3"]
    short += ["--max-new-tokens", "4", "--learning-rate", "1e-3", "--max-examples", "20", "--held-out", "0.25"]
    given = ["--data", "data.jsonl", "--model", "model", "--chat-template", "chat.jinja", "--objective", objective]
    assert main(["train", *given, *short, "--output", "first"]) == 0
    assert main(["train", "--config", "first/config.yaml"]) == 0
    again = f"runs/{objective}-1"
    assert figures("first") == figures(again)
    assert Path("first/model/model.safetensors").read_bytes() == Path(again, "model/model.safetensors").read_bytes()
    saved = [yaml.safe_load(Path(run, "config.yaml").read_text()) for run in ("first", again)]
    assert [s.pop("name") for s in saved] == ["first", f"{objective}-1"]
    assert saved[0] == saved[1]
    assert json.loads(Path("first/data_report.json").read_text())["chosen"] == 20
    assert len(figures("first")) == 3 + 3


def test_the_report_of_a_resumed_run_has_its_language(tiny: Path) -> None:
    short = ["--steps", "2", "--prompts-per-step", "4", "--sample-prompts", "0", "--held-out", "4", "--lang", "ja"]
    assert main(["train", "--data", "data.jsonl", "--model", "model", "--output", "run", *short]) == 0
    shutil.rmtree("run/model")  # as if it had been stopped before the model was saved
    Path("run/report.html").unlink()
    assert main(["resume", "run"]) == 0
    assert '<html lang="ja"' in Path("run/report.html").read_text(encoding="utf-8")
