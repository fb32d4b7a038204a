"""Settings from YAML: the key decides the type, and a refusal names file, line, value and what is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetyvalve.config import Key, read_settings
from safetyvalve.errors import UsageError

KEYS = {
    "data": Key(Path),
    "eta": Key(str, optional=True),
    "learning_rate": Key(float),
    "max_length": Key(int, optional=True),
    "report_to": Key(str, many=True, optional=True),
    "steps": Key(int),
    "trust_remote_code": Key(bool),
}


def read(folder: Path, text: str | bytes) -> dict[str, Any]:
    file = folder / "run.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {name: setting.value for name, setting in read_settings(file, KEYS).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate: 1e-5", 1e-5),  # a text in YAML 1.1
        ("learning_rate: 2.0e-05", 2e-5),
        ("learning_rate: 3", 3.0),
        ("learning_rate: .5", 0.5),
        ("steps: 1_000", 1000),
        ("eta: paper", "paper"),
        ("eta: 0.05", "0.05"),
        ("eta: 1e-2", "1e-2"),
        ("eta: no", "no"),  # false in YAML 1.1; what the option means by it, the option says
        ("eta: null", None),
        ("eta:", None),
        ("max_length: ~", None),
        ("data: 2024-01-01", "2024-01-01"),  # a date in YAML
        ("data: '比較 データ.jsonl'", "比較 データ.jsonl"),
        ("trust_remote_code: true", True),
        ("trust_remote_code: False", False),
        ("report_to: [tensorboard, wandb]", ["tensorboard", "wandb"]),
        ("report_to: tensorboard", ["tensorboard"]),
        ("report_to: []", []),
    ],
)
def test_the_key_decides_the_type(tmp_path: Path, text: str, expected: Any) -> None:
    (value,) = read(tmp_path, text).values()
    assert value == expected
    assert type(value) is type(expected)


def test_byte_order_mark_and_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert read(tmp_path, b"\xef\xbb\xbfdata: ~/pairs.jsonl\n") == {"data": "/home/me/pairs.jsonl"}


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("steps: 1\nlearning_rte: 1e-5", [":2:", "'learning_rte'", "Did you mean 'learning_rate'?"]),
        ("learning-rate: 1e-5", [":1:", "Did you mean 'learning_rate'?"]),
        ("colour: red", ["'colour'", "Accepted: data, eta"]),
        ("<<: {steps: 1}", ["'<<'"]),
        ("steps: 1\n\nsteps: 2", [":3:", "'steps'", "first in line 1"]),
        ("steps: ten", [":1:", "steps is 'ten'", "whole number"]),
        ("steps: 1.5", ["steps is '1.5'", "whole number"]),
        ("steps: 1e3", ["steps is '1e3'"]),
        ("steps: 010", ["steps is '010'"]),  # eight in YAML 1.1
        ("steps: 1:30", ["steps is '1:30'"]),  # ninety
        ("steps: 0x10", ["steps is '0x10'"]),
        ("steps: true", ["steps is 'true'"]),
        ("steps: '40'", ["steps is the text '40'", "without quotes"]),
        ("steps:", ["steps is empty", "remove the line"]),
        ("steps: [1, 2]", ["steps is a list"]),
        ("steps: {a: 1}", ["steps is a mapping"]),
        ("steps: !!python/object/apply:os.system ['true']", ["steps is a list"]),
        ("steps: !!python/name:os.system ''", ["has the tag", "Remove the tag"]),
        ("learning_rate: 0,1", ["learning_rate is '0,1'"]),
        ("learning_rate: .inf", ["learning_rate is '.inf'"]),
        ("learning_rate: .nan", ["learning_rate is '.nan'"]),
        ("learning_rate: 1e999", ["learning_rate is '1e999'"]),
        ("trust_remote_code: yes", ["trust_remote_code is 'yes'", "true or false"]),
        ("trust_remote_code: on", ["trust_remote_code is 'on'"]),
        ("trust_remote_code: 'true'", ["the text 'true'", "without quotes"]),
        ("trust_remote_code: 1", ["trust_remote_code is '1'"]),
        ("data: ''", ["data is an empty text"]),
        ("report_to: [tensorboard, [wandb]]", ["report_to is a list"]),
        ("report_to: [tensorboard, null]", ["report_to", "empty"]),
        ("steps: 1\n  learning_rate: 2", [":2:", "not YAML"]),
        ("eta: %x", [":1:", "not YAML", "single quotes"]),
        ("steps: 1\n---\nsteps: 2", [":2:", "not YAML"]),
        ("- steps", ["is no mapping"]),
        ("# nothing\n", ["has no settings", "safetyvalve init"]),
        ("data: 比較.jsonl".encode("cp932"), ["is not UTF-8 (byte 6)"]),
        (b"steps: \x00", ["not YAML"]),
    ],
)
def test_refusals(tmp_path: Path, text: str | bytes, fragments: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert all(f in message for f in ["run.yaml", *fragments]), message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml", KEYS)
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path, KEYS)
