"""The model card of a trained model: what its run recorded, for people who meet the model without the run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from pydantic import ValidationError

from safetyvalve.data import DataReport
from safetyvalve.lineage import BaseModel
from safetyvalve.report.evidence import evidence_of
from safetyvalve.report.finding import finding
from safetyvalve.report.record import RunRecord, number, read_run

__all__ = ["model_card", "write_card"]

_OBJECTIVES = {
    "rpo": "RPO, regularized preference optimization (arXiv 2405.16436)",
    "dpo": "DPO, direct preference optimization (arXiv 2305.18290)",
    "ipo": "IPO, identity preference optimization (arXiv 2310.12036)",
    "maximin": "maximin, a policy and a reward as its adversary (arXiv 2405.16436, Algorithm 1)",
    "sft": "SFT, supervised fine-tuning on the chosen responses",
}
_UPSTREAM = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Models on the hub that an alias was made from."""
_HUB_DATASET = re.compile(r"hub dataset (\S+/\S+) ")
_DATA = {
    "source": "source",
    "encoding": "encoding",
    "form": "form of the rows",
    "rows": "rows read",
    "kept": "rows kept",
    "dropped": "rows dropped",
    "duplicates": "duplicates kept",
    "comparisons": "comparisons",
    "prompts_opening": "distinct opening turns",
    "longer_won": "share won by the longer response",
}
_METRICS = (
    "samples/independent_score",
    "samples/kl",
    "samples/length",
    "samples/eos_rate",
    "samples/repetition",
    "held_out/preference_loss",
    "held_out/accuracy",
    "held_out/margin",
    "held_out/chosen_displacement",
    "held_out/rejected_displacement",
)


def write_card(run: Path) -> Path | None:
    """Write ``model/README.md`` of a finished run, once: a card that is there may have been edited and stays.

    Returns:
        The card, or None where the run has no model or the model has a card.

    Raises:
        RunError: the run cannot be read.
    """
    card = run / "model" / "README.md"
    if not card.parent.is_dir() or card.exists():
        return None
    text = model_card(read_run(run), card.parent)
    partial = card.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(card)
    return card


def model_card(record: RunRecord, model: Path) -> str:
    """Hugging Face's model card: YAML front matter, then Markdown. Says what is not known; gives no paths.

    Args:
        record: of the run.
        model: the trained model's folder.
    """
    from huggingface_hub import ModelCardData

    base = BaseModel.read(model)
    adapter = (model / "adapter_config.json").is_file()
    upstream = _upstream(base)
    objective = str(record.config.get("objective"))
    dataset = _HUB_DATASET.match(str((record.data_report or {}).get("source")))
    front = ModelCardData(
        library_name="peft" if adapter else "transformers",
        license=base.license if base else None,
        base_model=upstream,
        base_model_relation=("adapter" if adapter else "finetune") if upstream else None,
        datasets=[dataset[1]] if dataset else None,
        pipeline_tag="text-generation",
        tags=["safetyvalve", "preference-optimization", objective, *(["lora"] if adapter else [])],
    )
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string(
        files("safetyvalve.report").joinpath("templates/card.md").read_text(encoding="utf-8")
    )
    body = template.render(**_content(record, model, base, adapter))
    return f"---\n{front.to_yaml()}\n---\n\n" + re.sub(r"\n{3,}", "\n\n", body).rstrip() + "\n"


def _content(record: RunRecord, model: Path, base: BaseModel | None, adapter: bool) -> dict[str, Any]:
    first, last = (record.evaluations[i] if record.evaluations else {} for i in (0, -1))
    report, about = record.data_report or {}, record.environment or {}
    evidence = evidence_of(record)
    return {
        "name": _plain(record.name),
        "opening": _opening(record, base, report),
        "domain": _domain(report),
        "measured": _measured(record),
        "scored": evidence.status != "unscored",
        "finding": _plain(" ".join(finding([record]).sentences)),
        "rows": [(f"`{k}`", _figure(first.get(k)), _figure(last.get(k))) for k in _METRICS if k in first or k in last],
        "selection": _selection(record.selection),
        "first_step": first.get("step", 0),
        "last_step": record.last_step,
        "planned": record.planned_steps,
        "adapter": adapter,
        "merged": (model / "adapter").is_dir(),
        "rank": _adapter_rank(model) if adapter else None,
        "four_bit": base.four_bit if base else None,
        "portable": base is not None and base.kind == "hub",
        "alias": base.name if base and base.kind == "alias" else None,
        "base_text": _base_text(base),
        "license": base.license if base else None,
        "data": list(_data_rows(report)),
        "settings": [(f"`{k}`", _value(k, v, base, report)) for k, v in record.config.items() if k != "name"],
        "environment": list(_environment_rows(about)),
    }


def _selection(selection: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Of the step whose weights became the model, where that is not the last one."""
    if selection is None:
        return None
    fresh, error = _figure(selection.get("fresh_score")), _figure(selection.get("fresh_score_se"))
    return {"step": str(selection.get("step")), "fresh": fresh, "error": error}


def _opening(record: RunRecord, base: BaseModel | None, report: Mapping[str, Any]) -> str:
    objective = str(record.config.get("objective"))
    comparisons = number(report.get("comparisons"))
    return (
        f"{_code(base.name) if base else 'A model whose base is not on record'}, aligned with human preference data by "
        f"{_OBJECTIVES.get(objective, objective)}, with safetyvalve"
        + (f", on a file of {comparisons:.0f} comparisons" if comparisons is not None else "")
        + ". Everything below comes from the record of that run."
    )


def _domain(report: Mapping[str, Any]) -> str:
    turns = number(report.get("prompts_opening"))
    file = _code(_file(report)) if "file" in report else "a file that is not on record"
    return file + (f" with {turns:.0f} distinct opening turns" if turns is not None else "")


def _measured(record: RunRecord) -> str:
    prompts = len({answer.prompt_id for answer in record.samples.get(record.last_step, ())})
    examples = number(record.config.get("held_out_examples"))
    parts = [
        f"answers to {prompts} held-out prompts of the same data" if prompts else "no sampled answers",
        f"comparisons of at most {examples:.0f} held-out examples" if examples else "no held-out comparisons",
    ]
    return " and ".join(parts) + ", one training run, one seed"


def _upstream(base: BaseModel | None) -> str | None:
    """Name on the hub; None for a folder, which has none that is known."""
    if base is None or base.kind == "folder":
        return None
    return _UPSTREAM.get(base.name) if base.kind == "alias" else base.name


def _base_text(base: BaseModel | None) -> str:
    if base is None:
        return "not on record"
    kinds = {"alias": base.description or "an alias of safetyvalve", "hub": "on the hub", "folder": "a local folder"}
    return (
        f"{_code(base.name)} ({kinds[base.kind]})"
        + (f", commit {_code(base.revision)}" if base.revision else "")
        + (f", held in 4-bit nf4 computing in {base.four_bit}" if base.four_bit else "")
        + f", SHA-256 of its weights {_code(base.sha256)}"
    )


def _data_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not report:
        return
    if "file" in report:
        yield "file", _code(_file(report))
    if "sha256" in report:
        yield "SHA-256", _code(str(report["sha256"]))
    for key, label in _DATA.items():
        value = report.get(key)
        if isinstance(value, list):
            value = len(value)
        if value is None:
            yield label, "not recorded"
        elif key == "longer_won" and isinstance(value, float):
            yield label, f"{value:.1%}"
        else:
            yield label, _plain(value)
    yield from _more_data_rows(report)


def _more_data_rows(recorded: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What only a report of this version says; nothing of one of another version."""
    try:
        report = DataReport.model_validate(recorded)
    except ValidationError:
        return
    if report.chosen is not None:
        yield "examples chosen for the run", str(report.chosen)
    if report.tokens is not None:
        yield "rows truncated", str(len(report.tokens.truncated))
    if report.quality is not None:
        yield "contradictory pairs of responses", str(len(report.quality.contradictions))
        noise = report.quality.label_noise
        yield "labels the wrong way round", "cannot be estimated" if noise is None else str(noise.error_rate)
    if report.personal is not None:
        yield "places that look like personal data", str(len(report.personal.findings))
    if report.coverage is not None:
        yield "prompts to be served that the data do not cover", str(report.coverage.uncovered)


def _environment_rows(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in about.items():
        if key == "trained_by":
            continue  # a card is published, and an account's name is nobody's business there
        if isinstance(value, Mapping):
            text = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            text = ", ".join(map(str, value)) or "none"
        else:
            text = str(value)
        yield key.replace("_", " ").replace("sha256", "SHA-256"), _plain(text)


def _value(key: str, value: object, base: BaseModel | None, report: Mapping[str, Any]) -> str:
    if key == "model" and base is not None:
        return _code(base.name)
    if key == "data" and "file" in report:
        return _code(_file(report))
    return "not set" if value is None else _code(_last(value) if isinstance(value, str) else str(value))


def _adapter_rank(model: Path) -> int | None:
    value = json.loads((model / "adapter_config.json").read_text(encoding="utf-8")).get("r")
    return value if isinstance(value, int) else None


def _figure(value: object) -> str:
    known = number(value)
    return "not measured" if known is None else f"{known:.4g}"


def _file(report: Mapping[str, Any]) -> str:
    """What the data was called: a name on the hub whole, a file without its folder."""
    name = str(report["file"])
    return name if _HUB_DATASET.match(str(report.get("source"))) else _last(name)


def _last(text: str) -> str:
    """The last part of what may be a path: a card gives no folders of its author."""
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1]


def _plain(value: object) -> str:
    """Text that stays text in Markdown and in its tables."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text).replace("<", "&lt;")


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"
