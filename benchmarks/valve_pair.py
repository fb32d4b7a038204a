"""The measurement behind "The valve" in docs/release.md: a trained pair whose reward rises and people do not follow.

    python benchmarks/valve_pair.py FOLDER              # trains what FOLDER does not have yet, then reads the valve

The fault is a common one: whoever labelled took the longer answer for the better. A reward model learns from such
labels (of the quickstart's answers to a prompt the longest over the shortest), DPO trains on the same, and the valve
compares the trained model with the one before training: the reward's preference beside that of two scripted annotators,
who vote by the quickstart's rubric with noise (log-odds of two for each point). Both models and the reward are real;
only the annotators are not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from importlib.resources import files
from pathlib import Path

from safetyvalve.lab.quickstart.rubric import score_answers
from safetyvalve.lab.tour.annotators import prefers_first
from safetyvalve.lab.tour.material import CONTROL, answer_rows
from safetyvalve.lab.tour.road import COMMAND
from safetyvalve.release.staged.valve import read_valve

COMMON = ("--model", "smollm2-135m", "--held-out", "192", "--seed", "0")
REWARD = ("--members", "3", "--freeze", "--steps", "16", "--prompts-per-step", "8", "--held-out-examples", "32")
POLICY = (
    *("--objective", "dpo", "--steps", "16", "--prompts-per-step", "4", "--learning-rate", "2e-4", "--beta", "0.01"),
    *("--token-budget", "4096", "--eval-every", "16", "--held-out-examples", "16", "--sample-prompts", "96"),
    *("--max-new-tokens", "96", "--scorer", "quickstart-rubric"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    data, proxy, run = folder / "longer.jsonl", folder / "proxy", folder / "dpo"
    write_longer(data)
    if not proxy.exists():
        safetyvalve("reward", "train", "--data", data, "--output", proxy, *COMMON, *REWARD)
    if not run.exists():
        safetyvalve("train", "--data", data, "--output", run, "--proxy", proxy, *COMMON, *POLICY)
    rows = answer_rows({"dpo": run})
    reward = [{row["probe"]: row["rewards"][model] for row in rows} for model in ("dpo", CONTROL)]
    draw = random.Random(0)
    people = {row["probe"]: (vote(row, draw) + vote(row, draw)) / 2 for row in rows}
    found = read_valve(*reward, people)
    print(f"{found.state} ({found.reason}), {len(rows)} prompts")
    for name, seen in (("reward prefers the trained model", found.reward), ("annotators prefer it", found.people)):
        if seen is not None:
            print(f"  {name}: {seen.estimate:.1%} [{seen.low:.1%}, {seen.high:.1%}]")
    for model in (CONTROL, "dpo"):
        texts = [row["responses"][model] for row in rows]
        length = sum(map(len, texts)) / len(texts)
        rubric = sum(score_answers([row["prompt"][-1]["content"] for row in rows], texts)) / len(texts)
        mean = sum(row["rewards"][model] for row in rows) / len(rows)
        print(f"  {model}: reward {mean:+.2f}, rubric {rubric:.2f}, {length:.0f} characters")


def safetyvalve(*words: object) -> None:
    subprocess.run([*COMMAND, *map(str, words)], check=True)


def write_longer(file: Path) -> None:
    """The longest answer to each of the quickstart's prompts over the shortest."""
    text = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl").read_text(encoding="utf-8")
    with file.open("w", encoding="utf-8") as stream:
        for row in map(json.loads, text.splitlines()):
            shortest, *_, longest = sorted(row["responses"], key=len)
            pair = {"prompt": row["prompt"], "chosen": longest, "rejected": shortest}
            stream.write(json.dumps(pair, ensure_ascii=False) + "\n")


def vote(row: dict[str, dict[str, str]], draw: random.Random) -> float:
    """1 for the trained model, 0 for the one before."""
    prompt = row["prompt"][-1]["content"]  # type: ignore[index]
    new, old = score_answers([prompt] * 2, [row["responses"]["dpo"], row["responses"][CONTROL]])
    return float(prefers_first(new, old, draw))


if __name__ == "__main__":
    main()
