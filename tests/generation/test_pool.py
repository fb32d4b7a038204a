"""A pool grows batch by batch, goes on where it was cut, and refuses what it is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.cli import main
from safetyvalve.data import Message, response_id
from safetyvalve.errors import DataError, RunError
from safetyvalve.generation import PoolSettings, draw_pool, ready_prompts
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = [((Message(role="user", content=text),), None) for text in ("one", "two words", "three more words")]


def draw(file: Path, **changes: Any) -> Any:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    ready = ready_prompts(PROMPTS, model, tokenizer, max_new_tokens=5)
    settings = PoolSettings("tiny", "hash", **{"n": 2, "max_new_tokens": 5, "precision": "fp32"} | changes)
    return draw_pool(file, ready, model, tokenizer, settings, token_budget=60)


def rows(file: Path) -> list[dict[str, Any]]:
    return sorted(map(json.loads, file.read_text().splitlines()), key=lambda r: (r["prompt_id"], r["sample"]))


def test_a_pool_that_was_cut_is_the_pool_drawn_at_once(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert draw(whole) == (6, 0)
    lines = whole.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[:3]) + lines[3][:40])  # as kill -9 leaves it
    assert draw(cut) == (3, 3)
    assert rows(cut) == rows(whole)
    assert cut.read_text().startswith("".join(lines[:3]))
    assert draw(cut) == (0, 6)
    assert draw(cut, n=3) == (3, 6)
    for row in rows(cut):
        prompt = tuple(Message(**m) for m in row["prompt"])
        assert row["response_id"] == response_id(prompt, row["response"])


@pytest.mark.parametrize("torn", [False, True])
def test_killed(torn: bool, tmp_path: Path) -> None:
    """kill -9 while the second batch is written, whole lines or a part of one: what stands is kept, the rest drawn."""
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    draw(whole)
    script = f"""
import os, signal, sys
from pathlib import Path
from safetyvalve.generation import pool
from tests.generation.test_pool import draw
real, calls = os.fsync, []
def fsync(file):
    calls.append(file)
    if len(calls) == 2:
        if {torn}:
            os.ftruncate(file, os.fstat(file).st_size - 30)
        os.kill(os.getpid(), signal.SIGKILL)
    real(file)
pool.os.fsync = fsync
draw(Path(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(cut)], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    kept = cut.read_text().rpartition("\n")[0].splitlines()
    assert 0 < len(kept) < 6
    assert draw(cut) == (6 - len(kept), len(kept))
    assert cut.read_text().splitlines()[: len(kept)] == kept
    assert rows(cut) == rows(whole)


def test_other_settings_and_other_files_are_refused_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    draw(file)
    before = file.read_bytes()
    with pytest.raises(RunError, match="under other settings"):
        draw(file, seed=1)
    with pytest.raises(RunError, match="this time: bf16"):
        draw(file, precision="bf16")
    file.write_bytes(b'{"a": 1}\n' + before)
    with pytest.raises(DataError, match="no sample of this command"):
        draw(file)
    assert file.read_bytes() == b'{"a": 1}\n' + before


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, prompts, pool = tmp_path / "model", tmp_path / "prompts.txt", tmp_path / "pool.jsonl"
    tiny_model().save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    prompts.write_text("one\ntwo\none\n")
    words = ["sample", str(model), "--prompts", str(prompts), "-n", "2", "--max-new-tokens", "4", "-o", str(pool)]
    assert main(words) == 0
    assert "4 answers to 2 prompts added" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 answers to 2 prompts added, 4 were there" in capsys.readouterr().out
    assert main(["sample", str(model)]) == 2
    assert "--prompts FILE or --data FILE" in capsys.readouterr().err


def test_a_prompt_that_leaves_no_room_is_an_error_with_its_place(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.max_position_embeddings = 20
    with pytest.raises(DataError, match="more than the model's context of 20"):
        ready_prompts(PROMPTS, model, tiny_tokenizer(), max_new_tokens=5)
