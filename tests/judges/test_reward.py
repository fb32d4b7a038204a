"""A reward model as a judge: its own template, exact scores, and what it cannot judge."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from safetyvalve.errors import JudgeError, ModelError, UsageError
from safetyvalve.judges import Opinion, OpinionCache, judge_pairs, pair_answers
from safetyvalve.judges.reward import RewardJudge, load_reward_judge
from safetyvalve.judges.run import plan
from tests.judges.stand_in import answer, some_pairs
from tests.tiny import tiny_tokenizer


def _config(**fields: object) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=200,
        **{"num_labels": 1, "pad_token_id": 257, **fields},
    )


def _model(**fields: object) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(_config(**fields)).eval()
    with torch.no_grad():
        model.score.weight.mul_(30)
    return model


def _scores(judge: RewardJudge, n: int = 5) -> list[tuple[float, float]]:
    found = [j.opinions["a_first"] for j in judge_pairs(judge, some_pairs(n))]
    return [o.scores for o in found if isinstance(o, Opinion) and o.scores]


@pytest.mark.parametrize("pad", [257, None])
def test_scores_are_those_of_the_plain_model_on_the_templated_text(pad: int | None) -> None:
    model, tokenizer = _model(pad_token_id=pad), tiny_tokenizer()
    (first, second), *_ = _scores(RewardJudge(model, tokenizer, "tiny", batch_size=3))
    for text, score in (("GOOD 0", first), ("BAD 0", second)):
        turns = f"<|im_start|>user\np0<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n"
        ids = torch.tensor([tokenizer(turns, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            assert float(model(input_ids=ids).logits) == pytest.approx(score, abs=1e-5)
    assert first != pytest.approx(second, abs=1e-3)


def test_batches_change_nothing() -> None:
    answers = [answer(m, m * (1 + 7 * i), f"{i}") for i in range(5) for m in ("x", "yy")]
    pairs = pair_answers(answers).pairs
    by_size = [
        [j.opinions["a_first"] for j in judge_pairs(RewardJudge(_model(), tiny_tokenizer(), "t", batch_size=b), pairs)]
        for b in (1, 4)
    ]
    for one, other in zip(*by_size, strict=True):
        assert isinstance(one, Opinion)
        assert isinstance(other, Opinion)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert one.scores is not None
        assert one.choice == ("first" if one.scores[0] > one.scores[1] else "second")


def test_a_conversation_beyond_the_context_is_no_verdict() -> None:
    pairs = pair_answers([answer("x", "long " * 60), answer("y", "short")]).pairs
    (judgment,) = judge_pairs(RewardJudge(_model(), tiny_tokenizer(), "t"), pairs)
    opinion = judgment.opinions["a_first"]
    assert isinstance(opinion, Opinion)
    assert (opinion.choice, opinion.cause) == ("none", "longer than the context")


def test_models_that_give_no_single_finite_score() -> None:
    with pytest.raises(ModelError, match="has 2 outputs"):
        RewardJudge(_model(num_labels=2), tiny_tokenizer(), "t")
    broken = _model()
    with torch.no_grad():
        broken.score.weight.fill_(math.nan)
    with pytest.raises(JudgeError, match=r"reward model 't' gave nan for the answer"):
        _scores(RewardJudge(broken, tiny_tokenizer(), "t"))
    plain = tiny_tokenizer()
    plain.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        RewardJudge(_model(), plain, "t")
    with pytest.raises(UsageError, match="batch-size"):
        RewardJudge(_model(), tiny_tokenizer(), "t", batch_size=0)
    strict = tiny_tokenizer()
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ModelError, match="roles must alternate"):
        _scores(RewardJudge(_model(), strict, "t"))


def test_loading_by_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-reward"
    _model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    judge = load_reward_judge(str(folder))
    assert judge.name == "my-reward"
    assert _scores(judge) == _scores(RewardJudge(_model(), tiny_tokenizer(), "t"))
    # Other weights under the same name do not meet each other's opinions.
    cache = OpinionCache(tmp_path / "cache")
    judge_pairs(judge, some_pairs(1), cache=cache)
    assert plan(judge, some_pairs(1), cache).todo == []
    with torch.no_grad():
        judge.model.score.weight.mul_(2)
    assert len(plan(RewardJudge(judge.model, judge.tokenizer, judge.name), some_pairs(1), cache).todo) == 1


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    LlamaForCausalLM(_config()).save_pretrained(tmp_path / "lm")
    tiny_tokenizer().save_pretrained(tmp_path / "lm")
    with pytest.raises(ModelError, match=r"score\.weight\), which would be random"):
        load_reward_judge(str(tmp_path / "lm"))
    with pytest.raises(ModelError, match="is no folder"):
        load_reward_judge("./nowhere")
