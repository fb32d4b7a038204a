"""How much the shared-prefix forward saves: one optimizer step's work by both engines, alternating in one process.

    python benchmarks/engine.py [--pairs 16] [--rounds 3] [--data FILE] [--precision bf16]

By default the shipped quickstart comparisons (four responses a prompt) are used; ``--data`` takes any file that
``safetyvalve train`` takes. Prints the ratio of medians with each engine's spread. Give it the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.resources import files
from pathlib import Path

from safetyvalve.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch  # noqa: E402

from safetyvalve.data import load_preferences, tokenize_examples  # noqa: E402
from safetyvalve.models import load_model  # noqa: E402
from safetyvalve.trees import Tree, pack_by_budget, response_logps  # noqa: E402


def one_pass(model: torch.nn.Module, trees: list[Tree], engine: str, autocast: bool, budget: int) -> float:
    """Seconds of forward and backward over all trees, in micro-batches of the token budget."""
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    # The plain forward computes the prompt once a response, so its rows fill the budget sooner.
    sizes = [t.n_tokens if engine == "tree" else sum(len(t.prompt_ids) + len(r) for r in t.response_ids) for t in trees]
    for group in pack_by_budget(sizes, budget):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            sums = response_logps(model, [trees[i] for i in group], engine=engine).sums()
        sums.mean().backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = files("safetyvalve.lab.quickstart").joinpath("preferences.jsonl")
    parser.add_argument("--data", type=Path, default=Path(str(shipped)))
    parser.add_argument("--pairs", type=int, default=16, help="examples, from the start of the file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--budget", type=int, default=2048)
    options = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m")
    examples = tokenize_examples(load_preferences(options.data).examples[: options.pairs], tokenizer).examples
    trees = [Tree(e.prompt_ids, e.response_ids) for e in examples]
    times: dict[str, list[float]] = {"tree": [], "padded": []}
    for round_number in range(options.rounds + 1):
        for engine, seconds in times.items():
            taken = one_pass(model, trees, engine, options.precision == "bf16", options.budget)
            if round_number:  # the first round warms up
                seconds.append(taken)
    tokens = sum(t.n_tokens for t in trees)
    print(
        f"{len(trees)} examples, {tokens} tokens with shared prompts, {options.precision}, "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    for engine, seconds in times.items():
        print(f"{engine:7s} {statistics.median(seconds):7.2f} s  (spread {min(seconds):.2f} to {max(seconds):.2f})")
    print(f"ratio   {statistics.median(times['padded']) / statistics.median(times['tree']):7.2f}")


if __name__ == "__main__":
    main()
