"""Baselines of the SFT term: their laws, their gradients, and what the comparisons say about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments

from safetyvalve.data import Comparison, PreferenceExample, TokenizedExample
from safetyvalve.errors import DataError, UsageError
from safetyvalve.training import Baseline, Forward, Objective, PolicyTrainer, ReferencedExample, RunSettings, Totals
from safetyvalve.training.baseline import (
    SftPool,
    attach,
    column_law,
    compared_texts,
    compared_tokens,
    over_compared,
    over_responses,
    with_column,
)
from safetyvalve.training.coverage import MOST_UNCOVERED, check_coverage, measure_coverage
from safetyvalve.training.policy import step_meters
from safetyvalve.training.reference_samples import Draw, ReferenceSamples, samples_coverage
from safetyvalve.trees import Tree, response_logps
from tests.tiny import random_tree, tiny_model, tiny_tokenizer
from tests.training.helpers import examples, referenced, tokenized

RANKED = TokenizedExample(
    "ranked",
    (1, 2),
    ((3,), (4, 5), (6,)),
    (Comparison(winner=0, loser=1), Comparison(winner=0, loser=2, weight=0.5), Comparison(winner=2, loser=1, weight=2)),
)


class TestLaws:
    def test_chosen_is_the_default(self) -> None:
        assert RANKED.baseline_law == ((0, 1.0), (0, 0.5), (2, 2.0))
        assert RANKED._replace(baseline=()).baseline_law == ()

    def test_all_responses_by_hand(self) -> None:
        assert dict(over_compared(RANKED).baseline_law) == {0: 0.75, 1: 1.5, 2: 1.25}

    def test_attached_responses_are_leaves_once(self) -> None:
        """The example's own stay, further ones follow, one given twice has twice the share of the weight 3.5."""
        found = attach(RANKED, [(4, 5), (7,), (8, 8), (7,)])
        assert found.response_ids == ((3,), (4, 5), (6,), (7,), (8, 8))
        assert found.comparisons == RANKED.comparisons
        assert dict(found.baseline_law) == {1: 3.5 / 4, 3: 3.5 / 2, 4: 3.5 / 4}

    def test_demonstrations_count_a_prompt_once(self) -> None:
        assert over_responses(RANKED).baseline_law == ((0, 1 / 3), (1, 1 / 3), (2, 1 / 3))

    def test_column(self) -> None:
        """Tokens of the column's texts; one that the example has already is no further leaf."""
        example = example_of("Hi?", "Good.", "Bad.", baseline=("Good.", "Better."))
        tokenizer = tiny_tokenizer()
        (tokens,) = tokens_of([example])
        (found,) = with_column([example], [tokens], tokenizer, max_length=None, on_long="error")
        assert len(found.response_ids) == 3
        assert tokenizer.decode(found.response_ids[2]) == "Better.<|im_end|>"
        assert found.baseline_law == ((0, 0.5), (2, 0.5))

    def test_column_follows_the_examples_that_were_kept(self) -> None:
        """The examples of an id are all kept or all left out; two of one id may have other baselines."""
        left_out = example_of("Long?", "a" * 90, "b", baseline=("x",))
        twins = [example_of("Hi?", "Good.", "Bad.", baseline=(b,)) for b in ("One.", "Two.")]
        kept = tokens_of(twins)
        found = with_column([left_out, *twins], kept, tiny_tokenizer(), max_length=None, on_long="error")
        texts = [tiny_tokenizer().decode(t.response_ids[2], skip_special_tokens=True) for t in found]
        assert texts == ["One.", "Two."]

    def test_long_and_missing_columns(self) -> None:
        long = example_of("Hi?", "Good.", "Bad.", baseline=("a" * 100, "b"))
        limit = tokens_of([long])[0].longest
        with pytest.raises(DataError, match=f"at most --max-length {limit} are accepted"):
            with_column([long], tokens_of([long]), tiny_tokenizer(), max_length=limit, on_long="error")
        (found,) = with_column([long], tokens_of([long]), tiny_tokenizer(), max_length=limit, on_long="drop")
        assert found.baseline_law == ((2, 1.0),)
        bare = example_of("Hi?", "Good.", "Bad.")
        with pytest.raises(DataError, match="has no baseline response, 'Hi\\?'"):
            with_column([bare], tokens_of([bare]), tiny_tokenizer(), max_length=None, on_long="error")


def example_of(prompt: str, chosen: str, rejected: str, baseline: tuple[str, ...] = ()) -> PreferenceExample:
    return PreferenceExample.model_validate(
        {
            "prompt": [{"role": "user", "content": prompt}],
            "responses": [{"content": chosen}, {"content": rejected}],
            "comparisons": [{"winner": 0, "loser": 1}],
            "baseline": [{"content": b} for b in baseline],
        }
    )


def tokens_of(data: list[PreferenceExample]) -> list[TokenizedExample]:
    from safetyvalve.data import tokenize_example

    return [tokenize_example(e, tiny_tokenizer()) for e in data]


def batches(reference: PreTrainedModel) -> dict[str, tuple[list[ReferencedExample], list[ReferencedExample]]]:
    """For each baseline the data's examples that carry it, and the prompts of an SFT set."""
    plain = examples(reference)
    extra = [random_tree(1, 11, 3, seed=50 + i).response_ids for i in range(len(plain))]

    def again(tokens: list[TokenizedExample]) -> list[ReferencedExample]:
        return [referenced(reference, t) for t in tokens]

    tokens = [e.tokens for e in plain]
    sft = [over_responses(tokenized(random_tree(*n, seed=70 + i), (), f"sft-{i}")) for i, n in enumerate(SFT)]
    return {
        "chosen": (plain, []),
        "all-responses": (again([over_compared(t) for t in tokens]), []),
        "column": (again([attach(t, [*more, t.response_ids[0]]) for t, more in zip(tokens, extra, strict=True)]), []),
        "sft-data": (again([t._replace(baseline=()) for t in tokens]), again(sft)),
    }


SFT = ((8, 5, 17), (20, 3), (3, 30, 6, 1))


def by_hand(objective: Objective, data: list[ReferencedExample], policy: PreTrainedModel) -> Tensor:
    """The loss from one plain forward a response: no tree, no micro-batch, the formulas written out."""
    preference = weight = sft = mass = pooled = torch.zeros((), dtype=torch.float64)
    for e in data:
        prompt = e.tokens.prompt_ids
        logps = [response_logps(policy, [Tree(prompt, (r,))], engine="padded").sums()[0] for r in e.tokens.response_ids]
        for c in e.tokens.comparisons:
            h = (logps[c.winner] - e.ref_logps[c.winner]) - (logps[c.loser] - e.ref_logps[c.loser])
            preference = preference - c.weight * torch.nn.functional.logsigmoid(objective.beta * h)
            weight = weight + c.weight
        for place, share in e.tokens.baseline_law:
            n = len(e.tokens.response_ids[place])
            sft = sft - share * logps[place] / (n if objective.reduction == "sequence_mean" else 1)
            pooled = pooled + share * n
            mass = mass + share
    sft = sft / (pooled if objective.reduction == "batch_token_mean" else mass)
    return preference / weight + objective.eta * objective.beta * sft


@pytest.mark.parametrize("reduction", ["sum", "sequence_mean", "batch_token_mean"])
@pytest.mark.parametrize("kind", ["chosen", "all-responses", "column", "sft-data"])
def test_gradient_equals_plain_computation_in_any_split(tmp_path: Path, kind: str, reduction: Any) -> None:
    objective = Objective("rpo", beta=0.1, eta=0.7, reduction=reduction)
    data, sft = batches(tiny_model(seed=0, dtype=torch.float64))[kind]
    plain = tiny_model(seed=1, dtype=torch.float64)
    expected = by_hand(objective, [*data, *sft], plain)
    expected.backward()
    for budget in (1, 80, 10_000):
        model = tiny_model(seed=1, dtype=torch.float64)
        arguments = TrainingArguments(
            str(tmp_path), use_cpu=True, report_to=[], per_device_train_batch_size=8, remove_unused_columns=False
        )
        run = PolicyTrainer(
            model=model,
            args=arguments,
            objective=objective,
            forward=Forward(token_budget=budget),
            sft_pool=SftPool(sft, per_step=len(sft), seed=0) if sft else None,
        )
        loss = run.training_step(model, data)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
        assert gradient(plain).norm() > 0.1
        assert (gradient(model) - gradient(plain)).norm() < 1e-6 * gradient(plain).norm()


def gradient(model: PreTrainedModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_meters_by_hand() -> None:
    """Ratio and negative log-likelihood over the baseline's law; the chosen ones stay beside them."""
    data, _ = batches(tiny_model(seed=0))["all-responses"]
    policy, objective, totals = tiny_model(seed=1), Objective("rpo", beta=0.1), Totals.of(data)
    sums = response_logps(policy, [e.tree for e in data]).sums().detach()
    got = step_meters([objective.terms(data, sums, totals)], totals, objective)
    ratio = nll = tokens = mass = 0.0
    parts = sums.split([len(e.tokens.response_ids) for e in data])
    for e, logps in zip(data, parts, strict=True):
        for place, share in e.tokens.baseline_law:
            ratio += share * float(logps[place] - e.ref_logps[place])
            nll -= share * float(logps[place])
            tokens += share * len(e.tokens.response_ids[place])
            mass += share
    assert got["baseline_ratio"] == pytest.approx(ratio / mass, rel=1e-4)
    assert got["baseline_ratio_per_token"] == pytest.approx(ratio / tokens, rel=1e-4)
    assert got["nll_per_token"] == pytest.approx(nll / tokens, rel=1e-4)
    assert got["chosen_ratio"] != pytest.approx(got["baseline_ratio"], rel=1e-2)
    dpo = Objective("dpo", beta=0.1)
    assert "baseline_ratio" not in step_meters([dpo.terms(data, sums, totals)], totals, dpo)


class TestPool:
    def test_all_are_drawn_before_any_again(self) -> None:
        items: list[Any] = list(range(7))
        pool = SftPool(items, per_step=3, seed=1)
        drawn = [x for step in range(14) for x in pool.draw(step)]
        turns = [drawn[i : i + 7] for i in range(0, 42, 7)]
        assert all(sorted(turn) == items for turn in turns)
        assert len({tuple(turn) for turn in turns}) > 1

    def test_a_step_depends_on_its_number_only(self) -> None:
        items: list[Any] = list(range(20))
        forward, backward = SftPool(items, per_step=3, seed=1), SftPool(items, per_step=3, seed=1)
        ahead = [forward.draw(s) for s in range(12)]
        assert [backward.draw(s) for s in reversed(range(12))] == ahead[::-1]
        assert [SftPool(items, per_step=3, seed=2).draw(s) for s in range(12)] != ahead


class TestCoverage:
    def test_by_hand(self) -> None:
        compared = {"p": {"a", "b"}, "q": {"c"}}
        law = [("p", "a", 2.0), ("p", "z", 1.0), ("q", "c", 4.0), ("r", "a", 1.0)]
        assert measure_coverage(law, compared) == (0.25, 0.125, 4)
        assert measure_coverage(list[tuple[str, str, float]](), compared).uncovered == 0

    def test_a_column(self) -> None:
        """Half of one prompt's weight is on an answer that was not compared: a quarter of two prompts'."""
        data = [example_of("A?", "x", "y", ("x", "new")), example_of("B?", "x", "y", ("y",))]
        assert measure_coverage(column_law(data), compared_texts(data)).uncovered == 0.25

    def test_a_response_that_no_comparison_names_is_not_seen(self) -> None:
        lonely = RANKED._replace(comparisons=RANKED.comparisons[:1])
        assert compared_tokens([lonely]) == {(1, 2): {(3,), (4, 5)}}

    def test_the_limit(self) -> None:
        at = measure_coverage([("p", "a", 99.0), ("p", "z", 1.0)], {"p": {"a"}})
        assert at.uncovered == MOST_UNCOVERED
        assert "1.0% of its weight" in check_coverage(at, "column 'gold'", allowed=False)
        past = measure_coverage([("p", "a", 98.0), ("p", "z", 2.0)], {"p": {"a"}})
        with pytest.raises(UsageError, match=r"baseline column 'gold': 2.0% .*--allow-uncovered"):
            check_coverage(past, "column 'gold'", allowed=False)
        assert "does not hold for this run" in check_coverage(past, "column 'gold'", allowed=True)


class TestReferenceSamples:
    def test_drawn_by_seed_and_kept(self) -> None:
        model, tokenizer = tiny_model(), tiny_tokenizer()
        data = [tokenized(random_tree(6, 4, 3, seed=i), ((0, 1, 1.0),), f"e{i}") for i in (1, 2, 1)]
        one, same, other = (ReferenceSamples.of(model, tokenizer, data, Draw(3, 5, seed)) for seed in (0, 0, 1))
        assert one.records == same.records != other.records
        assert len(one.records) == 2  # distinct prompts
        carried = ReferenceSamples(one.records).baseline_of(data)
        assert all(sum(w for _, w in t.baseline_law) == pytest.approx(1.0) for t in carried)
        assert carried[0].response_ids[2:] == tuple(
            dict.fromkeys(tuple(a["token_ids"]) for a in one.records[0]["answers"])
        )
        assert samples_coverage(carried, data).uncovered == 1.0
        assert 0 <= one.finished <= 1

    def test_an_answer_that_was_compared_is_covered(self) -> None:
        data = [tokenized(random_tree(6, 4, 3, seed=1), ((0, 1, 1.0),), "e")]
        compared = [list(r) for r in data[0].response_ids]
        answers = [{"token_ids": ids, "finished": True} for ids in (compared[0], compared[0], compared[1], [1])]
        carried = ReferenceSamples([{"prompt_ids": data[0].prompt_ids, "answers": answers}]).baseline_of(data)
        assert dict(carried[0].baseline_law) == {0: 0.5, 1: 0.25, 2: 0.25}
        assert samples_coverage(carried, data).uncovered == 0.25

    def test_too_long_for_the_context(self) -> None:
        data = [tokenized(random_tree(500, 4, 3), ((0, 1, 1.0),), "e")]
        with pytest.raises(UsageError, match=r"baseline_max_tokens is 13; .* context of 512\. Take at most 12"):
            ReferenceSamples.of(tiny_model(), tiny_tokenizer(), data, Draw(1, 13, 0))


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"kind": "gold"}, "baseline is 'gold'; accepted: chosen, all-responses, sft-data"),
        ({"kind": "sft-data"}, "needs --sft-data, which is missing"),
        ({"kind": "column"}, "needs --baseline-column"),
        ({"baseline_column": "gold"}, "baseline_column gold has no meaning for the baseline 'chosen'"),
        ({"kind": "all-responses", "baseline_samples": 2}, "baseline_samples 2 has no meaning"),
        ({"kind": "reference-samples", "baseline_samples": 0}, "baseline_samples is 0"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        Baseline(**arguments)


@pytest.mark.parametrize(("objective", "fragment"), [("dpo", "has no SFT term"), ("sft", "Pass the file itself")])
def test_objectives_without_use_for_it(objective: str, fragment: str) -> None:
    from safetyvalve.training import DataSource

    with pytest.raises(UsageError, match=fragment):
        RunSettings(
            name="x",
            source=DataSource(Path("d.jsonl")),
            objective=Objective(objective),
            baseline=Baseline("sft-data", sft_data=Path("s.jsonl")),
        )


def test_settings_come_back_from_the_flat_form() -> None:
    from safetyvalve.training import DataSource

    for baseline in (
        Baseline("reference-samples", baseline_samples=3, allow_uncovered=True),
        Baseline("sft-data", sft_data="s.jsonl", sft_prompts_per_step=4),
        Baseline("column", baseline_column="gold"),
    ):
        settings = RunSettings(name="x", source=DataSource("d.jsonl"), baseline=baseline)
        flat = settings.flat()
        assert flat["baseline"] == baseline.kind
        assert RunSettings.of(flat) == settings
