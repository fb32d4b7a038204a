"""The card of a reward model: what it is, what it is worth, what it is unsure of, and how long that may be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safetyvalve.rewards.record import RewardRecord

__all__ = ["LIMITS", "reward_card"]

LIMITS = (
    "It predicts which of two answers people of this data preferred; it does not measure truth, safety or use.",
    "A single reward has no meaning; differences between answers to one prompt do.",
    "It has been compared on the distributions named above. Optimising a policy against it moves away from them.",
    "Members of an ensemble share their data and their base: that they agree does not show that they are right.",
    "The width knows the last layer alone, and takes its features as given.",
)


def reward_card(
    name: str, record: RewardRecord, evaluation: Mapping[str, Any], *, weights_sha256: str, license: str | None = None
) -> str:
    """Markdown, with the front matter of a model card.

    Args:
        name: of the model.
        record: of its folder.
        evaluation: what ``safetyvalve reward evaluate`` and ``reward card --votes`` kept; may be empty.
        weights_sha256: hash of the weights as they are now.
        license: of the base, where it states one.
    """
    lines = list(_front(record, license))
    lines += [f"# {name}, version {record.version}", "", *_what(record, weights_sha256)]
    held_out = evaluation.get("held_out")
    if held_out:
        lines += _quality("Held-out comparisons", held_out)
    else:
        lines += ["", "## Held-out comparisons", "", "Not measured. Run `safetyvalve reward evaluate`."]
    for source, values in evaluation.get("sets", {}).items():
        lines += _elsewhere(source, values)
    for run, steps in evaluation.get("samples", {}).items():
        lines += _samples(run, steps)
    lines += _stale(evaluation.get("staleness"))
    return "\n".join([*lines, "", "## Limits", "", *(f"- {limit}" for limit in LIMITS), ""])


def _front(record: RewardRecord, license: str | None) -> Iterator[str]:
    base = record.base or {}
    yield "---"
    yield "library_name: transformers"
    yield "pipeline_tag: text-classification"
    yield "tags: [reward-model, safetyvalve]"
    if license:
        yield f"license: {license}"
    if base.get("kind") == "hub":
        yield f"base_model: {base['name']}"
    yield "---"


def _what(record: RewardRecord, weights: str) -> Iterator[str]:
    training, data, base = record.training, record.data, record.base or {}
    shared = {"heads": "heads on one trunk", "lora": "adapters on one frozen base", "separate": "whole models"}
    members = "one member" if record.members == 1 else f"{record.members} members: {shared[record.sharing]}"
    if record.members > 1:
        members += f", made to differ by {training.get('diversity')}"
    formula = record.aggregation.method + (
        f" with k = {record.aggregation.k:g}" if "-" in record.aggregation.method else ""
    )
    rows = [
        ("version", record.version),
        ("members", members),
        ("one reward of them", formula),
        ("base", f"{base.get('name', 'unknown')} (sha256 {str(base.get('sha256', ''))[:16]})"),
        ("trained", "heads alone" if training.get("freeze") else training.get("fine_tune", "unknown")),
        ("data", f"{data.get('file', 'unknown')} (sha256 {str(data.get('sha256', ''))[:16]})"),
        ("comparisons trained on", data.get("comparisons", "unknown")),
        (
            "loss",
            f"Bradley-Terry, margin {training.get('margin', 0):g}, centering {training.get('centering', 0):g}",
        ),
        ("width", record.width["formula"] + f"; ridge {record.width['ridge']:g}" if record.width else "none"),
        ("forward", f"{record.engine}: read at the last token of the response"),
        ("weights", f"sha256 {record.weights_sha256}"),
    ]
    yield from _table(("", ""), rows)
    if weights != record.weights_sha256:
        yield ""
        yield (
            f"**The weights are not those that were trained**: their hash is now {weights[:16]}…, the record says "
            f"{record.weights_sha256[:16]}…. What follows may be of another model."
        )


def _quality(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    found = values["calibration"]
    yield (
        f"{values['comparisons']} comparisons, {values['unscored']} of them unscored, in {values['clusters']} "
        "conversations that begin differently, which are the units of the intervals (95%)."
    )
    yield ""
    rows: list[tuple[Any, ...]] = [
        ("accuracy", _interval(values["accuracy"])),
        ("log loss (knowing nothing: 0.693)", f"{values['log_loss']:.3f}"),
        ("expected calibration error", f"{found['ece']:.3f} ({found['ece_if_calibrated']:.3f} if it were calibrated)"),
        ("calibration slope (1 is calibrated, below 1 too sure)", f"{found['slope']:.2f}"),
    ]
    rows += list(_length_rows(values["length"]))
    rows += list(_member_rows(values["members"]))
    yield from _table(("measure", "value"), rows)
    yield from ("", "Calibration, by the probability that its preferred answer is given:", "")
    yield from _table(
        ("probability", "comparisons", "said", "people agreed"),
        [(f"{b['low']:.2f} to {b['high']:.2f}", b["n"], f"{b['said']:.3f}", f"{b['won']:.3f}") for b in found["bins"]],
    )
    yield from ("", "Accuracy by slice:", "")
    yield from _table(
        ("slice", "value", "comparisons", "accuracy"),
        [(name, value, one["n"], _interval(one)) for name, by in values["slices"].items() for value, one in by.items()],
    )


def _length_rows(values: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if values:
        yield "longer answer preferred by people", _interval(values["people_prefer_longer"])
        yield "longer answer preferred by the model", _interval(values["model_prefers_longer"])
        yield "length bias: the second less the first", _interval(values["difference"])
        if values["rank_correlation"] is not None:
            yield "rank correlation of margin and difference in length", f"{values['rank_correlation']:+.3f}"


def _member_rows(values: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if values:
        yield "accuracy of each member", ", ".join(f"{m['estimate']:.3f}" for m in values["accuracy"])
        yield "two members order a comparison alike", f"{values['pairwise_agreement']:.3f}"
        yield "all members order it alike", f"{values['unanimous']:.3f}"
        for name in ("where_unanimous", "where_divided"):
            if values[name]:
                where = name.replace("_", " ")
                yield f"accuracy {where}", f"{_interval(values[name])}, {values[name]['n']} comparisons"


def _elsewhere(source: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## Elsewhere: {_cell(source)}", "")
    responses = values["responses"]
    rows = [("responses", f"{responses['n']}, and {responses['unscored']} unscored")]
    for name in ("reward", "spread", "width"):
        if name in responses:
            one = responses[name]
            rows.append((name, f"mean {one['mean']:.3f}, 5% to 95%: {one['q05']:.3f} to {one['q95']:.3f}"))
    rows += list(_beyond_rows(values.get("beyond")))
    yield from _table(("", ""), rows)
    if "accuracy" in values:
        yield from _quality(f"Comparisons of {_cell(source)}", values)


def _beyond_rows(values: Mapping[str, float] | None) -> Iterator[tuple[str, str]]:
    for name, share in (values or {}).items():
        yield f"{name} above that of 95% of held-out responses", f"{share:.3f} (there 0.05)"


def _samples(run: str, steps: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## Samples of the policy {_cell(run)}", "")
    rows = []
    for step, one in steps.items():
        beyond = one.get("beyond") or {}
        rank = one["rank_correlation_with_independent_score"]
        rows.append(
            (
                step,
                one["n"],
                _interval(one["reward"]),
                f"{one['spread']:.3f}",
                "" if one["width"] is None else f"{one['width']:.3f}",
                ", ".join(f"{name} {share:.2f}" for name, share in beyond.items()),
                "" if rank is None else f"{rank:+.2f}",
            )
        )
    header = (
        "step",
        "samples",
        "reward",
        "spread",
        "width",
        "above 95% of held-out",
        "rank correlation with independent score",
    )
    yield from _table(header, rows)


def _stale(found: Mapping[str, Any] | None) -> Iterator[str]:
    yield from ("", "## Is it still good?", "")
    if not found:
        yield "Not checked against newer votes of people. Run `safetyvalve reward card --votes FILE`."
        return
    yield (
        f"**{found['finding'][0].upper()}{found['finding'][1:]}.** Accuracy on {found['votes']} newer votes: "
        f"{_interval(found['new'])}; on the held-out comparisons: {_interval(found['held_out'])}; the change: "
        f"{_interval(found['change'], sign=True)}. A drop of {found['smallest_drop']:g} was to be excluded. "
        f"{found['unscored']} votes had an unscored answer, {found['known_before']} were on answers known before."
    )
    if found["left_out"]:
        yield ""
        yield "Votes that compare nothing: " + ", ".join(f"{n} {why}" for why, n in found["left_out"].items()) + "."


def _interval(values: Mapping[str, Any], *, sign: bool = False) -> str:
    form = "{:+.3f}" if sign else "{:.3f}"
    low, high = (form.format(values[end]) if values[end] is not None else "unknown" for end in ("low", "high"))
    return f"{form.format(values['estimate'])} ({low} to {high})"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(_cell(value) for value in row) + " |"


def _cell(value: object) -> str:
    """On one line, and unable to break a table or to be taken for markup."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
