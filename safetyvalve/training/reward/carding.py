"""The card of a reward model, written from what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path

from safetyvalve.errors import UsageError
from safetyvalve.rewards.card import reward_card
from safetyvalve.training.reward.examine import EVALUATION_FILE, Examiner

__all__ = ["write_reward_card"]


def write_reward_card(examiner: Examiner) -> Path:
    """Write README.md into the model's folder, anew: it says what was measured until now.

    Raises:
        UsageError: the model was not trained by safetyvalve, so that nothing is known of it.
    """
    record = examiner.model.record
    if record is None:
        raise UsageError(f"'{examiner.place}' has no reward.json; a model of `safetyvalve reward train` is accepted.")
    file = examiner.folder / EVALUATION_FILE
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("weights_sha256") != examiner.digest:
        found = {}
    license = (record.base or {}).get("license")
    name = examiner.folder.resolve().name
    card = examiner.place / "README.md"
    card.write_text(reward_card(name, record, found, weights_sha256=examiner.digest, license=license), encoding="utf-8")
    return card
