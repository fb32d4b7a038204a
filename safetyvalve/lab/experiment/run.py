"""One experiment: the pool, then for each seed the proxy and what is optimised against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetyvalve.data import Message, Prompt
from safetyvalve.errors import UsageError
from safetyvalve.lab.experiment.gold import Gold
from safetyvalve.lab.experiment.optimise import scored_policy
from safetyvalve.lab.experiment.pool import choose_prompts, divide, make_pool, prompt_id
from safetyvalve.lab.experiment.proxy import learn_proxy
from safetyvalve.lab.experiment.settings import POLICIES, LabSettings
from safetyvalve.lab.experiment.stages import locked
from safetyvalve.lab.quickstart.rubric import load_prompts
from safetyvalve.training import Progress

__all__ = ["quickstart_prompts", "run_lab"]


class _BarOnly(Progress):
    """Of a training inside: its bar. What it says of its data is in its run folder."""

    def line(self, text: str) -> None:
        pass


def quickstart_prompts() -> list[Prompt]:
    """The shipped prompts, for which the rubric knows what a good answer mentions."""
    return [(Message(role="user", content=p.prompt),) for p in load_prompts()]


def run_lab(
    settings: LabSettings,
    folder: Path,
    gold: Gold,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    prompts: Sequence[Prompt] | None = None,
    progress: Progress | None = None,
) -> None:
    """Run the experiment, or go on with it: what a stage has made is not made again, and seeds may be added.

    Args:
        settings: everything else that decides the result.
        folder: of the experiment; made if it is missing.
        gold: plays the true preference.
        seeds: of the division of the prompts, the labels, the proxy and the policies; the pool is one for all.
        prompts: to draw from; None takes the quickstart's.
        progress: what a person sees.

    Raises:
        UsageError: a seed below 0 or twice, too few prompts.
        RunError: the folder holds another experiment, or is being written.
        DataError: a gold that orders nothing, or files that do not belong together.
    """
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds are {list(seeds)}; distinct whole numbers of at least 0 are accepted, such as 0 1 2.")
    progress = progress or Progress(enabled=False)
    chosen = choose_prompts(settings, quickstart_prompts() if prompts is None else prompts)
    with locked(folder):
        settings.check(folder, gold.record, [prompt_id(p) for p in chosen])
        pool = make_pool(folder, settings, chosen, gold, progress)
        for seed in seeds:
            place = folder / f"seed-{seed}"
            place.mkdir(exist_ok=True)
            division = divide(pool, settings, seed)
            inner = _BarOnly(enabled=progress.enabled, name=f"seed {seed}, proxy")
            proxy = learn_proxy(place, settings, pool, division, seed, inner)
            for method in settings.methods:
                if method in POLICIES:
                    inner = _BarOnly(enabled=progress.enabled, name=f"seed {seed}, {method}")
                    scored_policy(place, method, settings, pool, proxy, division, gold, seed, inner)
