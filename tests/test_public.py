"""Public names, pinned: a change here is a change for users."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "safetyvalve": {"__version__", "load_preferences", "response_logps", "dpo_loss", "rpo_loss", "PolicyTrainer"},
    "safetyvalve.objectives": {
        "PAPER_ETA", "PREFERENCE_LOSSES", "ImplicitRewards", "PeerSettings", "PreferenceLoss", "Reduction",
        "adversarial_gap", "adversarial_reward_loss", "bradley_terry_loss", "dpo_loss", "effective_token_weight",
        "implicit_rewards", "ipo_loss", "leave_one_out", "parity_margin", "peer_settings", "rloo_loss", "rpo_loss",
        "sft_loss",
    },
    "safetyvalve.judges": {
        "Address", "Answer", "EndpointJudge", "Failure", "FakeJudge", "Judge", "Judgment", "Opinion", "OpinionCache",
        "Pair", "Paired", "Question", "RetryPolicy", "RubricJudge", "draw_prompts", "find_address", "judge_pairs",
        "pair_answers", "read_answers", "read_pairs", "save_verdicts", "verdicts_of",
    },
    "safetyvalve.rewards": {
        "AGGREGATIONS", "Aggregation", "Calibration", "ComparedPair", "Item", "Reading", "RewardModel", "RewardRecord",
        "SHARINGS", "SOURCES", "ScoreLine", "Scores", "Sharing", "Staleness", "Start", "Votes", "Width", "aggregate",
        "calibration", "distribution", "ensemble_hash", "evaluate_pairs", "fit_width", "join_scores", "load_reward",
        "load_start", "pairs_to_judge", "read_scores", "save_reward", "score_items", "spread", "staleness",
        "votes_of_verdicts",
    },
    "safetyvalve.stats": {
        "Agreement", "CalibrationMap", "Design", "Interval", "LengthControlled", "Meaning", "Need", "Overview",
        "Plan", "Position", "PredictionPowered", "Ranked", "Ranking", "RaterKind", "Resolved", "Sequential",
        "Verdict", "VerdictFile", "VerdictValue", "WinRate", "accuracy", "anytime_interval", "append_verdicts",
        "bradley_terry", "calibration_map", "clustered_mean", "cohen_kappa", "confidence_sequence",
        "detectable_win_rate", "family_bias", "krippendorff_alpha", "length_bias", "length_controlled_win_rate",
        "log_e_value", "majority", "mean_interval", "meaning_of_verdicts", "one_sided_models", "plan_evaluation",
        "position_bias", "power_of", "ppi_mean", "proportion_interval", "read_verdicts", "required_prompts", "resolve",
        "summarize", "win_rate",
    },
    "safetyvalve.trees": {
        "Divergence", "Engine", "EngineChoice", "PackedRow", "Quantity", "ReferenceCache", "ResponseLogps", "Segment",
        "Tree", "block_mask", "body_of", "check_length", "choose_engine", "largest_difference", "pack_by_budget",
        "pack_row", "packed_hidden_states", "recomputed_layers", "response_logps", "sequence_kl", "tokens_computed",
        "tree_attention", "underlying", "weights_hash",
    },
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_names(module: str) -> None:
    found = importlib.import_module(module)
    assert set(found.__all__) == PUBLIC[module]
    assert all(getattr(found, name) is not None for name in found.__all__)


def test_importing_the_package_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, safetyvalve; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
