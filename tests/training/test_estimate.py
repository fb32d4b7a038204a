"""The dry run: its arithmetic, that it leaves nothing behind, and that it tells the first batch that training sees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safetyvalve.cli import main
from safetyvalve.data import load_preferences, split_by_opening, tokenize_example
from safetyvalve.errors import UsageError
from safetyvalve.training import (
    Baseline,
    DataSource,
    FineTuning,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    PolicyTrainer,
    RunSettings,
    choosing,
    dry_run,
    memory,
    run_training,
)
from safetyvalve.training import estimate as estimate_module
from safetyvalve.training.estimate import evaluations, kept_bytes, predicted_peak
from safetyvalve.training.forward import Forward
from safetyvalve.training.memory import available_bytes, check_weights_fit, standing_bytes
from safetyvalve.training.preview import preview_batch
from safetyvalve.training.stopwatch import Stopwatch
from tests.tiny import random_tree, tiny_model, tiny_tokenizer
from tests.training.helpers import examples, tokenized, write_pairs

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data.jsonl", 60)


def settings(model: str, data: Path, **changes: Any) -> RunSettings:
    optimization = {"steps": 14, "prompts_per_step": 4, "learning_rate": 1e-3, "precision": "fp32"}
    observation = {"every": 5, "held_out_examples": 20, "prompts": 3, "samples_per_prompt": 2, "max_new_tokens": 5}
    return RunSettings(
        name="tiny",
        source=DataSource(data, held_out=20),
        model=ModelSource(model),
        objective=Objective("rpo", beta=0.1, eta=0.2),
        optimization=Optimization(**(optimization | changes)),
        observation=Observation(**observation),
    )


def test_by_hand() -> None:
    assert [evaluations(40, 10), evaluations(41, 10), evaluations(3, 10), evaluations(1, 1)] == [5, 6, 2, 2]
    assert predicted_peak(now=100, standing=50, weights=10, per_token=2.5, tokens=8) == 160


def test_standing_memory_of_a_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(10, 5, bias=False))
    assert standing_bytes(model) == 150 * 4 * 5
    model[0].requires_grad_(False)
    assert standing_bytes(model) == 150 * 4 * 2 + 50 * 4 * 3
    assert standing_bytes(model, own_reference=False) == 150 * 4 + 50 * 4 * 3


def test_step_seconds() -> None:
    """Two steps after the first: forward and backward at 0.01 s a token, and 0.5 s of optimizer."""
    pair = examples(tiny_model())[:2]
    watch = Stopwatch(Forward(), steps=3)
    watch.batches = [[pair[0]], [pair[0]], [pair[1]]]
    sizes = [b[0].tree.n_tokens for b in watch.batches]
    watch.tokens_per_second = [1.0, 100.0, 100.0]
    watch.taken = [999.0, sizes[1] / 100 + 0.5, sizes[2] / 100 + 0.5]
    assert watch.step_seconds(200) == pytest.approx(2.5)
    assert watch.steps_seconds() == pytest.approx(sum(watch.taken))  # the run has no more
    watch.batches += [pair[:1]] * 2
    assert watch.steps_seconds() == pytest.approx(sum(watch.taken) + 2 * (sizes[0] / 100 + 0.5))


def test_whole_evaluation_by_hand() -> None:
    """10 s, of them 1 s of forward, 6 x 0.4 s of gradients and 6.6 s of sampling; twice the examples and prompts."""
    part = [100] * 10
    held_out, sampled = estimate_module._whole_evaluation(10.0, 1e-3, examples=[part, part * 2], prompts=[8, 16])
    assert (held_out, sampled) == (pytest.approx(4.4), pytest.approx(13.2))
    nothing_more = estimate_module._whole_evaluation(10.0, 1e-3, examples=[part, part], prompts=[0, 0])
    assert sum(nothing_more) == pytest.approx(10)


def test_kept_bytes_are_those_of_autograd() -> None:
    """Without attention and head, which is recomputed, what is kept grows with the tokens."""
    model = tiny_model()
    small, large = (kept_bytes(model, random_tree(n, n, n), Forward()) for n in (20, 40))
    assert 1.8 < large / small < 4.2
    state = 40 * 3 * 32 * 4  # one hidden state; each of three layers keeps several
    assert large > 3 * 4 * state


class TestControlGroups:
    def test_version_2(self, tmp_path: Path) -> None:
        group = tmp_path / "sys/fs/cgroup/a/b"
        group.mkdir(parents=True)
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
        for folder, limit, used, cache in ((group, "max", 10, 0), (group.parent, "5000000", 3000000, 1000000)):
            (folder / "memory.max").write_text(f"{limit}\n")
            (folder / "memory.current").write_text(f"{used}\n")
            (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\n")
        resident = memory.psutil.Process().memory_info().rss
        assert available_bytes(tmp_path) - resident == pytest.approx(3_000_000, abs=2**22)

    def test_version_1_at_the_mount(self, tmp_path: Path) -> None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("9:cpu:/x\n4:memory:/docker/77\n")
        folder = tmp_path / "sys/fs/cgroup/memory"
        folder.mkdir(parents=True)
        (folder / "memory.limit_in_bytes").write_text("4000000\n")
        (folder / "memory.usage_in_bytes").write_text("1000000\n")
        resident = memory.psutil.Process().memory_info().rss
        assert available_bytes(tmp_path) - resident == pytest.approx(3_000_000, abs=2**22)

    def test_none(self, tmp_path: Path) -> None:
        assert available_bytes(tmp_path) > memory.psutil.virtual_memory().available / 2


def test_a_model_that_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    with pytest.raises(
        UsageError, match=r"holds at least .* GiB .* can be had on this machine. Take a smaller --model"
    ):
        check_weights_fit(tiny_model())


def test_activations_that_cannot_fit(model_folder: str, data_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything of that size is tried, with the budget that would fit."""
    model = tiny_model()
    trees = [random_tree(20, 10, 10, seed=i) for i in range(8)]
    per_token, constant = estimate_module._kept_by_token(model, trees, Forward())
    assert constant == 0
    resident = memory.psutil.Process().memory_info().rss
    room = resident + standing_bytes(model) + round(100.5 * per_token)
    monkeypatch.setattr(estimate_module, "available_bytes", lambda: room)
    monkeypatch.setattr(estimate_module, "_resident", lambda: resident)
    weights = sum(p.numel() * 4 for p in model.parameters())
    standing = standing_bytes(model)
    expected = int((room - predicted_peak(resident, standing_bytes(model), weights, 0, 0)) / per_token)
    with pytest.raises(UsageError, match=f"Set --memory low, or --token-budget {expected} or less"):
        estimate_module._check_activations_fit(model, trees, Forward(), 8, standing=standing)
    with pytest.raises(UsageError, match="longest example alone has 400 tokens"):
        estimate_module._check_activations_fit(
            model, [*trees, random_tree(200, 100, 100)], Forward(), 8, standing=standing
        )
    estimate_module._check_activations_fit(model, trees[:2], Forward(), 2, standing=standing)


class TestDryRun:
    def test_first_batch_is_the_one_that_training_sees(
        self, model_folder: str, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = dry_run(settings(model_folder, data_file)).estimate
        seen: list[list[str]] = []
        step = PolicyTrainer.training_step

        def record(self: PolicyTrainer, model: Any, inputs: Any, *rest: Any) -> Any:
            seen.append([e.tokens.id for e in inputs])
            return step(self, model, inputs, *rest)

        monkeypatch.setattr(PolicyTrainer, "training_step", record)
        run_training(settings(model_folder, data_file), tmp_path / "run")
        assert [t.id for t in told.first_batch] == seen[0]

    def test_tokens_of_a_step(self, model_folder: str, data_file: Path) -> None:
        """Over one epoch exactly the mean; all 40 training examples are met in ten steps of four."""
        told = dry_run(settings(model_folder, data_file, steps=10)).estimate
        assert told.engine.engine == "tree"
        assert told.seconds_per_step > 0
        assert set(told.seconds) == {"start", "reference pass", "evaluations", "steps"}
        assert all(value >= 0 for value in told.seconds.values())
        assert told.total_seconds == pytest.approx(sum(told.seconds.values()))
        assert told.peak_bytes > 50 * 2**20
        examples = load_preferences(data_file).examples
        train = split_by_opening(examples, held_out=20, seed=0).train
        sizes = [tokenize_example(e, tiny_tokenizer()).n_tokens for e in train]
        assert told.tokens_per_step == pytest.approx(4 * sum(sizes) / 40)

    def test_it_leaves_nothing(
        self, model_folder: str, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = set(tmp_path.rglob("*"))
        run = tmp_path / "run"
        options = ["--steps", "3", "--prompts-per-step", "4", "--held-out", "20", "--sample-prompts", "2"]
        options += ["--max-new-tokens", "4", "--precision", "fp32", "--dry-run"]
        assert main(["train", "--data", str(data_file), "--model", model_folder, "--output", str(run), *options]) == 0
        assert set(tmp_path.rglob("*")) == before
        out = capsys.readouterr().out
        for part in ("GiB resident at the peak", "a step:", "the run:", "first step: 4 prompts, 8 responses"):
            assert part in out
        assert "mask 1, chosen" in out
        assert "ends with EOS" in out


def test_prompts_that_join_a_step_are_in_the_estimate(model_folder: str, data_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Other {i}?", "completion": "Gold."}) + "\n" for i in range(12)))
    baseline = Baseline("sft-data", sft_data=file, sft_prompts_per_step=3, allow_uncovered=True)
    joined = dry_run(replace(settings(model_folder, data_file, steps=2), baseline=baseline)).estimate
    assert len(joined.first_batch) == 4 + 3
    assert [e.comparisons == () for e in joined.first_batch] == [False] * 4 + [True] * 3


def test_adapters(model_folder: str, data_file: Path) -> None:
    """Estimated as they are trained: with nothing copied."""
    told = dry_run(replace(settings(model_folder, data_file, steps=2), fine_tuning=FineTuning("lora"))).estimate
    assert told.seconds_per_step > 0
    assert len(told.first_batch) == 4


def test_what_a_full_run_found_is_not_taken_for_adapters(
    model_folder: str, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose layers are the model's own: the engines are compared again. A full one takes it over."""
    given = settings(model_folder, data_file, steps=2)
    run_training(given, tmp_path / "run")
    calls: list[int] = []
    plain = choosing.choose_engine
    monkeypatch.setattr(choosing, "choose_engine", lambda *a, **k: calls.append(1) or plain(*a, **k))
    dry_run(given)
    assert calls == []
    dry_run(replace(given, fine_tuning=FineTuning("lora")))
    assert calls


def test_preview_by_hand() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    ids = [tuple(tokenizer(text)["input_ids"]) for text in ("Hi there, Bob", "Yes", "No!")]
    example = tokenized(random_tree(1, 1, 1), ((1, 0, 1.0),), "e1")._replace(
        prompt_ids=ids[0], response_ids=((*ids[1], end), ids[2])
    )
    lines = preview_batch([example] * 2, tokenizer, limit=1)
    assert lines[0] == "first step: 2 prompts, 4 responses; 40 tokens, 14 of them in the loss"
    assert lines[1] == "  example e1"
    assert lines[2] == "    prompt, mask 0, 13 tokens, the last: ... 'e' 'r' 'e' ',' ' ' 'B' 'o' 'b'"
    assert lines[3] == "    response 1, mask 1, rejected, 4 tokens, ends with EOS: 'Y' 'e' 's' '<|im_end|>'"
    assert lines[4] == "    response 2, mask 1, chosen, 3 tokens, does not end with EOS: 'N' 'o' '!'"
    assert lines[5] == "  and 1 more"


def test_preview_of_japanese() -> None:
    """Characters of three tokens each, which a preview cut at the token would tear apart."""
    tokenizer = tiny_tokenizer()
    prompt, answer = (tuple(tokenizer(text)["input_ids"]) for text in ("日本の首都はどこですか", "東京"))
    example = tokenized(random_tree(1, 1, 1), ((0, 1, 1.0),), "e")._replace(
        prompt_ids=prompt, response_ids=((*answer, tokenizer.eos_token_id), answer)
    )
    _, _, first, chosen, rejected = preview_batch([example], tokenizer)
    assert first.endswith("33 tokens, the last: ... '首' '都' 'は' 'ど' 'こ' 'で' 'す' 'か'")
    assert chosen.endswith("7 tokens, ends with EOS: '東' '京' '<|im_end|>'")
    assert rejected.endswith("6 tokens, does not end with EOS: '東' '京'")


def test_preview_of_a_ranking() -> None:
    example = tokenized(random_tree(2, 1, 1, 1), ((0, 1, 1.0), (0, 2, 1.0), (2, 1, 1.0)), "e")
    lines = preview_batch([example], tiny_tokenizer())
    assert "beats 2, 3" in lines[3]
    assert "loses to 1, 3" in lines[4]
    assert "beats 2; loses to 1" in lines[5]


def test_preview_of_a_baseline() -> None:
    example = tokenized(random_tree(2, 1, 1, 1), ((0, 1, 1.0),), "e")._replace(baseline=((2, 1.0),))
    lines = preview_batch([example], tiny_tokenizer())
    assert "beats 2, 1 tokens" in lines[3]
    assert "not compared; baseline of the SFT term" in lines[5]
