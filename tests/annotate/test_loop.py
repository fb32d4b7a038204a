"""The loop closes: a run's samples are judged in the browser, and the votes train the next round with one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from safetyvalve.cli import main
from tests.annotate.serving import Server
from tests.annotate.test_browser import until
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

SMALL = ["--steps", "2", "--prompts-per-step", "4", "--sample-prompts", "6", "--samples-per-prompt", "2"]
SMALL += ["--max-new-tokens", "12", "--eval-every", "1", "--held-out", "8", "--held-out-examples", "4"]


def annotate(page: Any, link: str, base: str) -> int:
    """A scripted person: the longer answer wins, every third winner is corrected; returns the number judged."""
    page.goto(link)
    page.click("main button")
    page.check("[name=agreed]")
    page.click("main button.primary")
    page.wait_for_url("**/judge")
    judged = 0
    while page.query_selector(".ballot"):
        page.wait_for_load_state()
        lengths = page.evaluate("[...document.querySelectorAll('.answer .said')].map(e => e.textContent.length)")
        practice = page.query_selector(".practice") is not None
        key = page.get_attribute(".ballot", "action")
        page.keyboard.press("1" if lengths[0] >= lengths[1] else "2")
        judged += not practice
        if not practice and judged % 3 == 0 and page.query_selector("button[value=correct]"):
            page.keyboard.press("c")
            page.wait_for_selector("textarea[name=text]")
            page.fill("textarea[name=text]", f"A better answer, number {judged}.")
            page.click("button.primary")
            page.wait_for_selector(".diff")
        else:
            page.keyboard.press("Enter")
        gone = json.dumps(key)
        until(page, f"document.querySelector('.ballot')?.getAttribute('action') !== {gone}")
        if way_on := page.query_selector("main a.primary[href='/judge']"):
            if page.query_selector("text=Nothing to judge"):
                break
            way_on.click()
            page.wait_for_load_state()
    return judged


def test_votes_train_the_next_round(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"prompt": f"Question {i}?", "chosen": f"Answer {i}.", "rejected": "No " * (1 + i % 4)} for i in range(24)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    first = tmp_path / "first"
    options = ["--data", str(tmp_path / "data.jsonl"), "--model", str(tmp_path / "model"), "--output", str(first)]
    assert main(["train", *options, *SMALL]) == 0

    db = tmp_path / "annotate.db"
    server = Server(first, "--db", db, "--pairing", "samples", "--overlap", 2, "--repeats", 0, invites=2)
    try:
        judged = []
        for link in server.links["annotator"]:
            context = browser.new_context(locale="en")
            judged.append(annotate(context.new_page(), link, server.url))
            context.close()
    finally:
        server.stop()
    assert min(judged) >= 10

    out = tmp_path / "votes"
    assert main(["annotate", "export", str(out), "--db", str(db)]) == 0
    votes = [json.loads(line) for line in (out / "preferences.jsonl").read_text().splitlines()]
    assert sum(len(v["comparisons"]) for v in votes) > sum(judged)  # the corrections are comparisons too
    second = tmp_path / "second"
    data = str(out / "preferences.jsonl")
    assert main(["train", "--data", data, "--model", str(first / "model"), "--output", str(second), *SMALL]) == 0
    report = json.loads((second / "data_report.json").read_text())
    assert (report["kept"], report["dropped"], report["form"]) == (len(votes), [], "comparisons")
    assert (second / "report.html").exists()
    assert yaml.safe_load((second / "config.yaml").read_text())["model"] == str(first / "model")


def test_trl_reads_the_pairs(tmp_path: Path) -> None:
    """TRL's trainer takes the file as it is."""
    load_dataset = pytest.importorskip("datasets").load_dataset
    trl = pytest.importorskip("trl")
    tiny_model().save_pretrained(tmp_path / "model")
    row = {
        "prompt": [{"role": "user", "content": "Say it."}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        "weight": 1.0,
        "annotator": "annotator-1",
        "item": "0",
    }
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    data = load_dataset("json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "c"))
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, report_to=[], use_cpu=True, bf16=False, save_strategy="no"
    )
    model = str(tmp_path / "model")
    trainer = trl.DPOTrainer(model=model, args=settings, train_dataset=data, processing_class=tiny_tokenizer())
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=0.01)
