"""What a reward model is asked about: comparisons, answers, samples of runs and people's votes, read into items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safetyvalve.data import PreferenceExample, load_preferences, split_by_opening
from safetyvalve.data.sources import open_source
from safetyvalve.errors import DataError, RunError, SafetyValveError, UsageError, shorten
from safetyvalve.judges import read_answers, read_pairs
from safetyvalve.judges.sources import samples_of
from safetyvalve.rewards import Item, pairs_to_judge
from safetyvalve.rewards.votes import Votes, votes_of_verdicts
from safetyvalve.stats import read_verdicts
from safetyvalve.training.folder import read_config
from safetyvalve.training.reward.settings import TASK, RewardSettings

__all__ = [
    "Asked",
    "columns_of",
    "held_out_of_run",
    "items_of_examples",
    "read_asked",
    "read_votes",
    "settings_of_run",
    "trained_ids",
]


class Asked(NamedTuple):
    """A source as items, and as comparisons where it has any."""

    items: list[Item]
    examples: list[PreferenceExample]
    """Empty for answers that nobody compared."""


def items_of_examples(examples: Sequence[PreferenceExample]) -> list[Item]:
    """Every response of every example."""
    return [Item(e.prompt, r.content) for e in examples for r in e.responses]


def read_asked(source: str, *, encoding: str = "auto") -> Asked:
    """Comparisons as ``safetyvalve train --data`` takes them, or answers as ``safetyvalve judge`` does.

    Args:
        source: a run folder (RUN, RUN@STEP), a file, a folder or a hub name.
        encoding: of text files.

    Raises:
        DataError, RunError: it is neither.
    """
    if _is_run(source):
        return Asked([Item(a.prompt, a.text) for a in read_answers([source])], [])
    try:
        examples = load_preferences(source, max_drop=1.0, encoding=encoding).examples
    except DataError as error:
        try:
            return Asked([Item(a.prompt, a.text) for a in read_answers([source])], [])
        except (SafetyValveError, OSError):
            raise error from None
    return Asked(items_of_examples(examples), examples)


def _is_run(source: str) -> bool:
    try:
        return samples_of(source) is not None
    except RunError:
        return False


def columns_of(source: str, names: Sequence[str], *, encoding: str = "auto") -> dict[tuple[str, int], dict[str, str]]:
    """Fields of the rows, by file and row, to slice by.

    Raises:
        UsageError: a column that no row has.
    """
    if not names:
        return {}
    found: dict[tuple[str, int], dict[str, str]] = {}
    seen: set[str] = set()
    for place, fields in open_source(source, encoding=encoding).rows:
        seen |= fields.keys() & set(names)
        found[place.file, place.row] = {n: shorten(fields[n], 60) if n in fields else "missing" for n in names}
    if lacking := [n for n in names if n not in seen]:
        raise UsageError(f"--slice-by is '{lacking[0]}', which no row of '{source}' has. Name a field of the data.")
    return found


def settings_of_run(folder: Path) -> RewardSettings | None:
    """The settings of the reward training in ``folder``; None where it is no run of one."""
    if not (folder / "config.yaml").is_file():
        return None
    values = read_config(folder)
    return RewardSettings.of(values) if values.get("task") == TASK else None


def held_out_of_run(settings: RewardSettings) -> tuple[list[PreferenceExample], list[PreferenceExample]]:
    """The comparisons that a run was trained on and those that it held out, by the same split; both as they were read,
    before the model's context shortened or dropped any."""
    from safetyvalve.training.material import choose
    from safetyvalve.training.progress import Progress

    source = settings.source
    read = load_preferences(source.data, form=source.format, max_drop=source.max_drop, encoding=source.encoding)
    chosen = choose(read, source, Progress(enabled=False))
    split = split_by_opening(chosen.examples, held_out=source.held_out, seed=source.split_seed)
    return split.train, split.held_out


def read_votes(file: str, answers: Sequence[str]) -> Votes:
    """Comparisons of people: preference pairs, or verdicts with the answers that they are about.

    Raises:
        DataError, UsageError: neither, or verdicts without their answers.
    """
    if not answers:
        try:
            examples = load_preferences(file, max_drop=1.0).examples
        except DataError as error:
            raise DataError(
                f"'{file}' holds no preference pairs ({error}). Where it holds verdicts, name the answers that people "
                "judged with --answers."
            ) from None
        return Votes(pairs_to_judge(examples), items_of_examples(examples), {})
    pairs = {p.id: (p.model_a, p.model_b, p.a, p.b) for p in read_pairs(answers, common_only=True).pairs}
    return votes_of_verdicts(read_verdicts(file).verdicts, pairs, str)


def trained_ids(examples: Sequence[PreferenceExample]) -> set[str]:
    """Ids of the responses of examples."""
    return {item.id for item in items_of_examples(examples)}
