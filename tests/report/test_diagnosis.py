"""Diagnosis of runs made in code: curves, peak, gap, what has no score, and the section of the page."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safetyvalve.cli import main
from safetyvalve.data import Encoded
from safetyvalve.errors import DataError, RunError
from safetyvalve.report import build_report, read_run
from safetyvalve.report.diagnosis import diagnose, diagnose_pool
from safetyvalve.report.scored_pool import read_pool
from tests.report.runs import STEPS, make_run, write_lines


def scored_run(
    folder: Path, *, gold: bool = True, dead_from: int | None = None, config: Mapping[str, Any] | None = None
) -> Path:
    """d = sqrt(KL) is 0, 1, 2, 3, 4; the proxy gains d, the independent score d (1 - 0.2 d), whose top is at 2.5."""
    make_run(folder, folder.name, [0.0] * 5 if gold else None, config=config)
    draw = random.Random(0)
    tastes = [draw.gauss(0, 0.3) for _ in range(24)]
    for i, step in enumerate(STEPS):
        file = folder / "samples" / f"step-{step:06d}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for j, row in enumerate(rows):
            prompt = int(row["probe"][5:])
            shift = draw.gauss(0, 0.2)
            dead = dead_from is not None and step >= dead_from
            gain = i * (1 - 0.2 * i) + tastes[prompt] * i / 10
            row |= {
                "kl": float(i * i),
                "response_id": f"{step}-{j}",
                "independent_score": gain + draw.gauss(0, 0.2) if gold and not dead else None,
                "proxy_reward": 10 + i + shift,
                "proxy_spread": 0.1 + abs(shift),
                "held_out_member": float(i) + draw.gauss(0, 0.2),
            }
        write_lines(file, rows)
    return folder


def test_peak_and_gap(tmp_path: Path) -> None:
    found = diagnose(read_run(scored_run(tmp_path / "run")), replicates=300)
    independent, proxy = (found["fits"][s]["best_of_n"] for s in ("independent", "proxy"))
    assert independent["peak"]["kind"] == "within"
    assert independent["peak"]["distance"]["estimate"] == pytest.approx(2.5, abs=0.2)
    assert proxy["peak"]["kind"] == "none"
    assert [p["sqrt_kl"] for p in found["points"]["proxy"]] == [0, 1, 2, 3, 4]
    assert found["points"]["proxy"][3]["gain"]["estimate"] == pytest.approx(3, abs=0.2)
    gap = found["gap"]
    assert gap["against"] == "independent" and gap["absent"] == ["distance", "width"]
    terms = {t["name"]: t["coefficient"] for t in gap["terms"]}
    assert terms["kl"]["low"] > 0
    assert json.loads(json.dumps(found)) == found


def test_a_held_out_member_is_never_called_independent(tmp_path: Path) -> None:
    found = diagnose(read_run(scored_run(tmp_path / "run", gold=False)), replicates=100)
    assert "independent" not in found["points"]
    assert found["gap"]["against"] == "held_out_member"


def test_a_dead_gold_leaves_its_evaluations_out_and_is_counted(tmp_path: Path) -> None:
    found = diagnose(read_run(scored_run(tmp_path / "run", dead_from=30)), replicates=100)
    assert [p["step"] for p in found["points"]["independent"]] == [0, 10, 20]
    assert [p["step"] for p in found["points"]["proxy"]] == list(STEPS)
    assert found["fits"]["independent"] == {"why": "few_evaluations"}
    assert found["unscored"]["independent"] == 2 * 48
    assert found["gap"]["incomplete"] == 2 * 48


def test_an_exploded_kl_is_no_point(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    file = run / "samples" / "step-000040.jsonl"
    write_lines(file, [json.loads(line) | {"kl": math.inf} for line in file.read_text().splitlines()])
    found = diagnose(read_run(run), replicates=100)
    assert [p["step"] for p in found["points"]["proxy"]] == [0, 10, 20, 30]
    assert found["unscored"]["kl"] == 48


def test_nothing_scored_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no samples with a score"):
        diagnose(read_run(make_run(tmp_path / "run", "run", None)))


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_has_the_section_until_the_samples_change(tmp_path: Path, lang: str) -> None:
    run = scored_run(tmp_path / "run")
    assert main(["diagnose", str(run), "--no-distance", "--bootstrap", "200"]) == 0
    page = build_report([read_run(run)], lang)
    assert 'id="observed-proxy-' in page and "log d" in page
    file = run / "samples" / "step-000040.jsonl"
    write_lines(file, [json.loads(line) | {"proxy_reward": 0.0} for line in file.read_text().splitlines()])
    stale = build_report([read_run(run)], lang)
    assert 'id="observed-proxy-' not in stale and "safetyvalve diagnose" in stale


def pool_rows(prompts: int = 12, n: int = 8) -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [
        {
            "prompt_id": f"p{p}",
            "response_id": f"{p}-{k}",
            "sample": k,
            "prompt": [{"role": "user", "content": "?"}],
            "response": "x" * k,
            "proxy_reward": draw.gauss(0, 1),
        }
        for p in range(prompts)
        for k in range(n)
    ]


def test_best_of_n_of_a_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, scores = tmp_path / "pool.jsonl", tmp_path / "scores.jsonl"
    rows = pool_rows()
    write_lines(pool, rows)
    lines = [{"response_id": r["response_id"], "reward": float(len(r["response"]))} for r in rows]
    write_lines(scores, [*lines[:-1], {"response_id": rows[-1]["response_id"], "unscored": "too long"}])
    found = diagnose_pool(read_pool(pool, scores, lambda prompts, answers: [-len(a) for a in answers]))
    assert found["unscored_proxy"] == 1 and found["curve"][-1]["n"] == 7
    assert found["curve"][0]["proxy"]["estimate"] == pytest.approx((11 * 3.5 + 3) / 12)
    for point in found["curve"]:
        assert point["independent"]["estimate"] == pytest.approx(-point["proxy"]["estimate"])
    assert main(["diagnose", "--pool", str(pool), "--scores", str(scores)]) == 0
    assert "best of n by the proxy, 12 prompts" in capsys.readouterr().out
    assert json.loads((tmp_path / "pool.diagnose.json").read_text())["curve"][1]["n"] == 2


def test_scores_that_do_not_join_are_refused(tmp_path: Path) -> None:
    pool, scores = tmp_path / "pool.jsonl", tmp_path / "scores.jsonl"
    rows = pool_rows(2, 2)
    write_lines(pool, rows)
    write_lines(scores, [{"response_id": r["response_id"], "reward": 1.0} for r in rows[1:]])
    with pytest.raises(DataError, match="lacks 1 of the 4 answers"):
        read_pool(pool, scores)
    write_lines(scores, [{"response_id": rows[0]["response_id"], "reward": value} for value in (1.0, 2.0)])
    with pytest.raises(DataError, match="a second time"):
        read_pool(pool, scores)
    write_lines(scores, [{"id": 3}])
    with pytest.raises(DataError, match="response_id with reward"):
        read_pool(pool, scores)


class Letters:
    """An encoder by counts of letters, which remembers what it was asked."""

    name, latin_only = "letters", True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Encoded:
        self.asked += texts
        counts = np.array([[1 + t.count(c) for c in "abcdefgh"] for t in texts], dtype=np.float32)
        return Encoded(counts / np.linalg.norm(counts, axis=1, keepdims=True), 0.0, 0)


def test_distances_from_the_data_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data.jsonl"
    pairs = [{"prompt": f"Question {i}?", "chosen": f"abc {i}", "rejected": f"hgf {i}"} for i in range(12)]
    write_lines(data, pairs)
    run = scored_run(tmp_path / "run", config={"data": str(data), "held_out": 4})
    encoder = Letters()
    monkeypatch.setattr("safetyvalve.encoders.load_encoder", lambda name: encoder)
    assert main(["diagnose", str(run), "--bootstrap", "100"]) == 0
    first = json.loads((run / "diagnose.json").read_text())
    assert len(encoder.asked) == 2 * 8 + 240  # responses of the training part, and the samples
    file = run / "distances.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:200]) + lines[200][:20])
    encoder.asked.clear()
    assert main(["diagnose", str(run), "--bootstrap", "100"]) == 0
    assert len(encoder.asked) == 2 * 8 + 40
    assert json.loads((run / "diagnose.json").read_text()) == first
    assert "distance" not in first["gap"]["absent"]


def test_data_that_is_gone_leaves_only_the_distance_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = scored_run(tmp_path / "run", config={"data": str(tmp_path / "gone.jsonl")})
    assert main(["diagnose", str(run), "--bootstrap", "100"]) == 0
    assert "distance from the data is left out" in capsys.readouterr().err
    assert "distance" in json.loads((run / "diagnose.json").read_text())["gap"]["absent"]
