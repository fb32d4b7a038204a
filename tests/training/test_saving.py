"""What a run leaves in model/: loads in plain transformers, in safetyvalve, and has the files that vLLM reads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from safetyvalve import models
from safetyvalve.errors import ModelError, UsageError
from safetyvalve.lineage import BaseModel
from safetyvalve.models import load_model
from safetyvalve.training import (
    Checkpointing,
    DataSource,
    FineTuning,
    ModelSource,
    Objective,
    Observation,
    Optimization,
    PolicyTrainer,
    Progress,
    RunSettings,
    choosing,
    resume_training,
    run_training,
)
from safetyvalve.trees import response_logps
from tests.tiny import random_tree, tiny_model, tiny_tokenizer

TREES = [random_tree(9, 7, 4, seed=1), random_tree(3, 5, seed=2)]
TIMES = {"seconds", "resident_gib", "tokens_per_second"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    tiny_model().save_pretrained(folder / "the-base")
    tiny_tokenizer().save_pretrained(folder / "the-base")
    (folder / "the-base" / "README.md").write_text("---\nlicense: mit\n---\n# A base\n")
    rows = [{"prompt": f"質問 {i}?", "chosen": f"答え {i}。", "rejected": "No " * (1 + i % 4)} for i in range(16)]
    (folder / "data.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    return folder


@pytest.fixture(autouse=True)
def own_cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(source / "cache"))


def settings(source: Path, fine_tuning: FineTuning, *, model: Path | None = None, steps: int = 2) -> RunSettings:
    return RunSettings(
        name="tiny",
        source=DataSource(source / "data.jsonl", held_out=4),
        model=ModelSource(str(model or source / "the-base")),
        objective=Objective("rpo", beta=0.1, eta=0.2),
        optimization=Optimization(steps=steps, prompts_per_step=4, learning_rate=1e-2, precision="fp32"),
        observation=Observation(every=2, held_out_examples=4, prompts=2, samples_per_prompt=1, max_new_tokens=4),
        checkpointing=Checkpointing(2),
        fine_tuning=fine_tuning,
    )


def logps(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return response_logps(model.eval(), TREES, engine="padded").tokens


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


COMMON = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "base_model.json"}
ADAPTER = {"adapter_model.safetensors", "adapter_config.json"}
WHOLE = {"config.json", "model.safetensors"}
LAYOUTS = {
    "full": (FineTuning(), COMMON | WHOLE | {"README.md"}),
    "lora": (FineTuning("lora", lora_rank=4), COMMON | ADAPTER | {"README.md"}),
    "merged": (
        FineTuning("lora", lora_rank=4, merge=True),
        COMMON | WHOLE | {"README.md"} | {f"adapter/{name}" for name in COMMON | ADAPTER},
    ),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def run(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFETYVALVE_CACHE", str(source / "cache"))
        output = tmp_path_factory.mktemp(request.param) / "run"
        run_training(settings(source, LAYOUTS[request.param][0]), output)
    return request.param, output


def test_files(run: tuple[str, Path]) -> None:
    name, output = run
    assert files(output / "model") == LAYOUTS[name][1]


def test_plain_transformers_and_safetyvalve_load_the_same_model(run: tuple[str, Path]) -> None:
    name, output = run
    plain = AutoModelForCausalLM.from_pretrained(output / "model")
    ours, tokenizer = load_model(str(output / "model"))
    assert (logps(plain) - logps(tiny_model())).abs().max() > 1e-3  # it learned something
    assert (logps(plain) - logps(ours)).abs().max() < 1e-5
    assert not any("lora" in n for n, _ in ours.named_parameters())
    assert AutoTokenizer.from_pretrained(output / "model").chat_template == tokenizer.chat_template
    assert tokenizer.chat_template == tiny_tokenizer().chat_template
    if name == "merged":
        by_adapter = AutoModelForCausalLM.from_pretrained(output / "model" / "adapter")
        assert (logps(by_adapter) - logps(plain)).abs().max() < 1e-5


def test_what_vllm_reads(run: tuple[str, Path]) -> None:
    """Its loader takes architecture and dtype from config.json, the end token from generation_config.json."""
    name, output = run
    model = output / "model"
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == "<|im_end|>"
    generation = GenerationConfig.from_pretrained(model)
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    assert tiny_tokenizer().eos_token_id in ends
    if name == "lora":
        config = json.loads((model / "adapter_config.json").read_text())
        assert (config["peft_type"], config["r"], config["bias"], config["use_dora"]) == ("LORA", 4, "none", False)
        assert config["modules_to_save"] is None
        assert all(".lora_A." in k or ".lora_B." in k for k in load_file(model / "adapter_model.safetensors"))
    else:
        config = json.loads((model / "config.json").read_text())
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert config["dtype"] == "float32"
        assert "quantization_config" not in config
        with safe_open(model / "model.safetensors", "pt") as weights:
            assert weights.metadata()["format"] == "pt"


def test_the_base_is_on_record(run: tuple[str, Path], source: Path) -> None:
    name, output = run
    base = BaseModel.read(output / "model")
    assert base is not None
    assert (base.name, base.kind, base.license, base.four_bit) == ("the-base", "folder", "mit", None)
    assert len(base.sha256) == 64
    card = ModelCard.load(output / "model" / "README.md")
    assert card.data.library_name == ("peft" if name == "lora" else "transformers")
    assert card.data.license == "mit"
    # Only the adapter's own configuration says where the base lies: transformers needs it.
    for file in (output / "model").rglob("*"):
        if file.is_file() and file.name != "adapter_config.json":
            assert str(source).encode() not in file.read_bytes(), file


def test_bf16(source: Path, run: tuple[str, Path], tmp_path: Path) -> None:
    kind = run[0]
    run_training(settings(source, replace(LAYOUTS[kind][0], save_dtype="bf16")), tmp_path / "run")
    weights = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    ours, exact = load_file(tmp_path / "run" / "model" / weights), load_file(run[1] / "model" / weights)
    assert ours.keys() == exact.keys()
    assert all(torch.equal(ours[k], exact[k].bfloat16()) for k in exact)
    if kind != "lora":
        assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["dtype"] == "bfloat16"
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").dtype == torch.bfloat16
    assert load_model(str(tmp_path / "run" / "model")).model.dtype == torch.float32


def test_a_reference_is_cached_by_the_way_its_layers_are_computed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listening(Progress):
        def __init__(self) -> None:
            super().__init__(enabled=False)
            self.said: list[str] = []

        def line(self, text: str) -> None:
            self.said.append(text)

    said, engines, compared, real = [], [], [], choosing.choose_engine
    monkeypatch.setattr(choosing, "choose_engine", lambda *a, **k: compared.append(a) or real(*a, **k))
    # A full run writes the layers out, an adapted one takes the model's own, which rounds differently; and the policy
    # must equal its reference before the first step.
    runs = [("full", FineTuning()), ("lora", FineTuning("lora")), ("again", FineTuning("lora")), ("more", FineTuning())]
    for name, chosen in runs:
        progress = Listening()
        run_training(settings(source, chosen, steps=1), tmp_path / name, progress=progress)
        said.append([line for line in progress.said if line.startswith("reference log-probabilities")])
        engines.append(next(line for line in progress.said if line.startswith("engine")))
    computed, cached = (["reference log-probabilities: " + how] for how in ("computed", "from the cache"))
    assert said == [computed, computed, cached, cached]
    # What the first of each found when it compared the engines holds for the second.
    assert len(compared) == 2
    assert engines[2:] == engines[1::-1]
    assert all("equal to the plain forward" in line for line in engines)


def record(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in m.items() if k not in TIMES} for m in lines]


@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_a_resumed_run_is_bitwise_that_of_one_never_stopped(
    kind: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "qlora":
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    chosen = settings(source, FineTuning(kind, lora_rank=4), steps=4)
    run_training(chosen, tmp_path / "whole")
    real = PolicyTrainer.training_step

    def stops(self: PolicyTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PolicyTrainer, "training_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run_training(chosen, tmp_path / "run")
    saved = files(tmp_path / "run" / "checkpoints" / "checkpoint-2")
    assert saved >= {"adapter_model.safetensors", "optimizer.pt", "rng_state.pth"}
    assert "model.safetensors" not in saved  # the adapter, not the base again
    resume_training(tmp_path / "run", lambda name: None)
    assert record(tmp_path / "run") == record(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / r / "model" / "adapter_model.safetensors") for r in ("run", "whole"))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    samples = [(tmp_path / r / "samples" / "step-000004.jsonl").read_text() for r in ("run", "whole")]
    assert samples[0] == samples[1]


class TestQLoRA:
    @pytest.fixture(scope="class")
    @staticmethod
    def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
        output = tmp_path_factory.mktemp("qlora") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SAFETYVALVE_CACHE", str(source / "cache"))
            run_training(settings(source, FineTuning("qlora", lora_rank=4, merge=True)), output)
        return output

    def test_the_run_starts_at_its_reference(self, run: Path) -> None:
        first = record(run)[0]
        assert first["samples/kl"] == 0
        assert first["held_out/chosen_displacement"] == pytest.approx(0, abs=1e-4)
        assert [m for m in record(run) if m["kind"] == "evaluation"][-1]["samples/kl"] > 0

    def test_merged_and_adapter_are_one_model(self, run: Path) -> None:
        """The merged one holds the base as it was trained on: back from 4 bits, not as it was before."""
        base = BaseModel.read(run / "model" / "adapter")
        assert base is not None and base.four_bit == "float32"
        plain = AutoModelForCausalLM.from_pretrained(run / "model")
        assert (logps(plain) - logps(load_model(str(run / "model" / "adapter")).model)).abs().max() < 1e-5
        assert (logps(plain) - logps(tiny_model())).abs().max() > 0.05


class TestFoldersOfAdapters:
    @pytest.fixture(scope="class")
    @staticmethod
    def trained(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        output = tmp_path_factory.mktemp("adapter") / "first"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SAFETYVALVE_CACHE", str(source / "cache"))
            run_training(settings(source, FineTuning("lora", lora_rank=4), steps=1), output)
        return output

    @pytest.fixture
    def adapter(self, trained: Path, tmp_path: Path) -> Path:
        """A copy, which a test may damage."""
        return Path(shutil.copytree(trained, tmp_path / "first")) / "model"

    def test_training_goes_on_from_one(self, adapter: Path, source: Path, tmp_path: Path) -> None:
        chosen = FineTuning("lora", lora_rank=4, merge=True)
        run_training(settings(source, chosen, model=adapter, steps=1), tmp_path / "second")
        first = record(tmp_path / "second")[0]
        assert first["samples/kl"] == 0
        assert (
            logps(load_model(str(tmp_path / "second" / "model")).model) - logps(load_model(str(adapter)).model)
        ).abs().max() > 1e-4
        base = BaseModel.read(tmp_path / "second" / "model")
        assert base is not None
        assert (base.name, base.license) == ("first/model", "mit")

    def test_an_adapter_on_an_adapter_is_refused(self, adapter: Path, source: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"is an adapter.*Add --merge"):
            run_training(settings(source, FineTuning("lora"), model=adapter), tmp_path / "second")
        assert not (tmp_path / "second").exists()
        with pytest.raises(ModelError, match="is an adapter, which cannot be trained on in 4 bits"):
            load_model(str(adapter), four_bit=torch.float32)

    def test_another_base_is_refused(self, adapter: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        tiny_model(seed=1).save_pretrained(other)
        self.set_base(adapter, str(other))
        with pytest.raises(ModelError, match=r"belongs to the-base with the weights .*, but '.*other' has"):
            load_model(str(adapter))
        (adapter / "base_model.json").unlink()
        load_model(str(adapter))

    def test_an_alias_is_resolved_anew(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As on another machine, where the cache lies elsewhere."""
        shutil.copytree(source / "the-base", tmp_path / "here")
        monkeypatch.setattr(models, "_smollm2", lambda: tmp_path / "here")
        chosen = settings(source, FineTuning("lora", lora_rank=4), model=Path("smollm2-135m"), steps=1)
        run_training(chosen, tmp_path / "run")
        assert str(tmp_path / "here") in (tmp_path / "run" / "model" / "adapter_config.json").read_text()
        expected = logps(AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model"))
        (tmp_path / "here").rename(tmp_path / "there")
        monkeypatch.setattr(models, "_smollm2", lambda: tmp_path / "there")
        assert (logps(load_model(str(tmp_path / "run" / "model")).model) - expected).abs().max() < 1e-5
        base = BaseModel.read(tmp_path / "run" / "model")
        assert base is not None
        assert (base.name, base.kind, base.license) == ("smollm2-135m", "alias", "apache-2.0")

    def test_a_base_that_moved(self, adapter: Path, source: Path, tmp_path: Path) -> None:
        self.set_base(adapter, str(tmp_path / "gone"))
        with pytest.raises(ModelError, match=r"is not at '.*gone'.*base_model_name_or_path"):
            load_model(str(adapter))
        moved = tmp_path / "moved"
        shutil.copytree(source / "the-base", moved)
        self.set_base(adapter, str(moved))
        assert load_model(str(adapter)).tokenizer.chat_template

    def test_pickled_adapters_only_when_asked_for(self, adapter: Path) -> None:
        torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
        expected = logps(load_model(str(adapter)).model)
        (adapter / "adapter_model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"no adapter_model\.safetensors.*--allow-pickle"):
            load_model(str(adapter))
        assert torch.equal(logps(load_model(str(adapter), allow_pickle=True).model), expected)

    def test_a_damaged_adapter(self, adapter: Path) -> None:
        file = adapter / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_model(str(adapter))

    @staticmethod
    def set_base(adapter: Path, base: str) -> None:
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
