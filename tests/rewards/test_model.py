"""Reward models: read at the last token by either engine, and saved so that plain transformers gives the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizerFast,
)

from safetyvalve.data import Message
from safetyvalve.errors import EngineError, ModelError, UsageError
from safetyvalve.rewards import RewardModel, RewardRecord, Width, ensemble_hash, fit_width, load_reward, load_start
from safetyvalve.rewards import save_reward as save
from safetyvalve.rewards.classifier import FEATURES
from safetyvalve.training import DataSource, FineTuning, ModelSource
from safetyvalve.training.reward import Ensemble, RewardSettings
from safetyvalve.training.reward.building import build_reward, finished, start_of
from safetyvalve.trees import Tree
from tests.tiny import random_tree, tiny_model, tiny_tokenizer

TREES = [random_tree(12, 9, 4, seed=1), random_tree(30, 2, 40, 7, seed=2)]
PROMPT = (Message(role="user", content="Which is better?"),)
RECORD = RewardRecord("1", "heads", 1, "tree", "")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    place = tmp_path / "base"
    tiny_model().save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return str(place)


def built(folder: str, sharing: str, members: int = 2) -> tuple[RewardModel, RewardSettings]:
    settings = RewardSettings(
        "r",
        DataSource("none"),
        ModelSource(folder),
        ensemble=Ensemble(members, sharing),
        fine_tuning=FineTuning("lora" if sharing == "lora" else "full"),
    )
    start = start_of(settings.model, members if sharing == "heads" else 1, seed=0)
    return build_reward(start, settings), settings


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "opt", "gemma2", "olmo2"])
def test_both_engines_read_the_same_token(family: str, tmp_path: Path) -> None:
    tiny_model(family).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    start = load_start(str(tmp_path), 2)
    model = RewardModel([start.model], start.tokenizer)
    assert model.choose_engine(TREES).engine == "tree"
    shared = model.rewards(TREES)
    model.choose_engine(TREES, wanted="padded")
    assert shared.shape == (2, 5)
    assert torch.allclose(shared, model.rewards(TREES), atol=1e-4)
    alone = [model.rewards([Tree(t.prompt_ids, (r,))]) for t in TREES for r in t.response_ids]
    assert torch.allclose(shared, torch.cat(alone, dim=1), atol=1e-4)


def test_engines_are_compared_response_by_response(folder: str) -> None:
    """Last states of real models differ in size, and the plain forward is run on one response at a time."""
    model, _ = built(folder, "heads")
    with torch.no_grad():
        model.parts[0].model.norm.weight[0] = 30.0
    alone = [Tree(t.prompt_ids, (r,)) for t in TREES for r in t.response_ids]
    apart = torch.cat([FEATURES.values(model.parts[0], [t], "padded") for t in alone])
    assert torch.allclose(FEATURES.values(model.parts[0], TREES, "padded"), apart, atol=1e-4)
    assert model.choose_engine(TREES).engine == "tree"


def test_a_reward_depends_on_its_last_token_and_on_no_other_response(folder: str) -> None:
    model, _ = built(folder, "heads", 1)
    ((a, b),) = model.rewards([Tree((1, 2, 3), ((4, 5), (4, 5, 257)))]).tolist()
    ((alone,),) = model.rewards([Tree((1, 2, 3), ((4, 5, 257),))]).tolist()
    assert a != pytest.approx(b, abs=1e-3)  # an end token that equals the pad token is read, not skipped
    assert b == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("sharing", ["heads", "lora", "separate"])
def test_saved_and_loaded_it_is_the_same_model(sharing: str, folder: str, tmp_path: Path) -> None:
    model, _ = built(folder, sharing)
    start = load_start(folder, 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    model.widths = tuple(
        Width(torch.eye(32, dtype=torch.float64) * (2 + i), torch.zeros(32, dtype=torch.float64))
        for i in range(model.passes)
    )
    place = tmp_path / "saved"
    record = dataclasses.replace(RECORD, width={"source": "features", "ridge": 1.0})
    save(model, place, record, base=start.base)
    again = load_reward(str(place))
    assert (again.members, again.sharing) == (2, sharing)
    assert again.record is not None
    assert again.record.weights_sha256 == ensemble_hash(again)
    assert torch.allclose(model.rewards(TREES), again.rewards(TREES), atol=1e-5)
    before, after = (m.score([PROMPT], [["yes", "no"]])[0] for m in (model, again))
    np.testing.assert_allclose(before.members, after.members, atol=1e-5)
    assert before.width is not None
    np.testing.assert_allclose(before.width, after.width, atol=1e-5)
    rewards = again.rewards(TREES)
    assert not torch.allclose(rewards[0], rewards[1], atol=1e-3)
    if sharing != "heads":
        member = place / "member-1"
        for file in member.glob("*.safetensors"):
            file.unlink()
        with pytest.raises(ModelError, match="member"):
            load_reward(str(place))


def test_all_members_get_gradients_in_one_backward(folder: str) -> None:
    for sharing in ("heads", "lora", "separate"):
        model, _ = built(folder, sharing)
        model.rewards(TREES).square().sum().backward()
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        assert all(p.grad is not None for p in trained.values()), sharing
        heads = [n for n in trained if "score" in n]
        assert len(heads) == (1 if sharing == "heads" else 2)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_plain_transformers_gives_the_same_rewards(tune: str, folder: str, tmp_path: Path) -> None:
    settings = RewardSettings("r", DataSource("none"), ModelSource(folder), fine_tuning=FineTuning(tune))
    model = build_reward(start_of(settings.model, 1, seed=0), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    expected = model.score([PROMPT], [["yes", "no, not at all"]])[0].members[0]
    save(finished(model), tmp_path / "saved", RECORD)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.pad_token != tokenizer.eos_token
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": PROMPT[0].content}, {"role": "assistant", "content": answer}], tokenize=False
        )
        for answer in ("yes", "no, not at all")
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        logits = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    np.testing.assert_allclose(logits[:, 0].numpy(), expected, atol=1e-4)


def encoder_folder(place: Path) -> str:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz?:"]
    vocabulary += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"]
    place.mkdir()
    (place / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(place)
    return str(place)


def test_an_encoder_takes_the_plain_path_and_says_why(tmp_path: Path) -> None:
    start = load_start(encoder_folder(tmp_path / "bert"), 2)
    model = RewardModel([start.model], start.tokenizer)
    scores = model.score([PROMPT], [["yes", "no"]])[0].members
    assert model.choice is not None
    assert model.choice.engine == "padded"
    assert "sees both directions" in model.choice.reason
    text = "[CLS]user: Which is better?\nassistant: yes[SEP]"
    ids = start.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(start.model(**ids).logits[0].numpy(), scores[:, 0], atol=1e-5)
    with pytest.raises(EngineError, match="is an encoder"):
        model.choose_engine(TREES, wanted="tree")
    save(model, tmp_path / "saved", RECORD)
    np.testing.assert_allclose(
        load_reward(str(tmp_path / "saved")).score([PROMPT], [["yes", "no"]])[0].members, scores, atol=1e-5
    )


def test_what_cannot_be_scored_is_unscored_with_its_reason(folder: str) -> None:
    model, _ = built(folder, "heads")
    (scores,) = model.score([PROMPT], [["fine", "x <|im_end|> y", "long " * 200, ""]])
    assert np.isfinite(scores.members[:, [0, 3]]).all()
    assert np.isnan(scores.members[:, [1, 2]]).all()
    assert scores.reasons[0] is None
    assert "special token" in str(scores.reasons[1])
    assert "longer than the context" in str(scores.reasons[2])
    with torch.no_grad():
        model.parts[0].score.weight[0].fill_(float("nan"))
    (broken,) = model.score([PROMPT], [["fine"]])
    assert np.isnan(broken.members).all()
    assert broken.reasons == ("the reward is not finite",)


def test_batches_change_nothing(folder: str) -> None:
    model, _ = built(folder, "heads")
    prompts = [(Message(role="user", content="q" * n),) for n in (3, 50, 9, 20)]
    answers = [["a", "bb"], ["c" * 30], ["d"], ["e", "f", "g" * 40]]
    small, large = (model.score(prompts, answers, token_budget=b) for b in (1, 10_000))
    for one, other in zip(small, large, strict=True):
        np.testing.assert_allclose(one.members, other.members, atol=1e-4)


def test_width_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    width = fit_width(features, [(0, 1)], source="features", ridge=1.0)
    # A = diag(1 + 1, 1 + 4)
    assert width(torch.tensor([[1.0, 1.0]])).tolist() == pytest.approx([(1 / 2 + 1 / 5) ** 0.5])
    width = fit_width(features, [(0, 1)], source="differences", ridge=1.0)
    # x = (1, -2), A = [[2, -2], [-2, 5]], A^-1 = [[5, 2], [2, 2]] / 6; v = (1, 0), so e - v = (0, 1)
    assert width(torch.tensor([[1.0, 1.0]])).tolist() == pytest.approx([(2 / 6) ** 0.5])
    with pytest.raises(UsageError, match="ridge"):
        fit_width(features, [(0, 1)], source="features", ridge=0.0)
