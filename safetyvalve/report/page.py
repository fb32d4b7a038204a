"""Runs to one HTML page that needs nothing but itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from safetyvalve import __version__
from safetyvalve.errors import RunError
from safetyvalve.report.alarms import alarm_advice, alarm_rows
from safetyvalve.report.dataset import data_parts
from safetyvalve.report.figures import figures
from safetyvalve.report.finding import Finding, finding
from safetyvalve.report.markup import cut_to, one_line, visible
from safetyvalve.report.notices import notices
from safetyvalve.report.observed import observed
from safetyvalve.report.record import RunRecord, read_run
from safetyvalve.report.sampled import exhibits
from safetyvalve.report.tables import comparison_rows, environment_rows, final_rows, numbers_rows, settings_rows
from safetyvalve.report.text import Text, signed, tidy

__all__ = ["build_report", "page_environment", "page_resource", "save_page", "write_report"]

_TEMPLATES = ("page.html", "answers.html", "data.html", "observed.html", "settings.html")
_METHODS = ("independent", "learned", "verdict", "compare", "clustered", "absence", "seed", "symptom", "alarms", "kl")


def build_report(records: Sequence[RunRecord], lang: str = "en") -> str:
    """The page of one or more runs.

    Args:
        records: runs of distinct names, at least one, as :func:`safetyvalve.report.read_run` gives them.
        lang: ``en`` or ``ja``.

    Returns:
        HTML without scripts and without references to anything outside it; equal for equal records.

    Raises:
        RunError: no runs, or two of one name.
        UsageError: another language.
    """
    text = Text(lang)
    found = finding(records, lang)
    return page_environment(text).get_template("page.html").render(_context(records, found, text))


def page_environment(text: Text, templates: Sequence[str] = _TEMPLATES) -> Environment:
    """Where templates are rendered: strict, and everything escaped that is not markup of our own."""
    environment = Environment(
        loader=DictLoader({name: page_resource(name) for name in (*templates, "macros.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "cut_to": cut_to, "one_line": one_line, "tidy": tidy, "svg": Markup}
    environment.globals |= {"t": text, "signed": signed}
    return environment


def write_report(paths: Sequence[str | Path], output: str | Path, lang: str = "en") -> Path:
    """Read runs and write their page.

    Args:
        paths: run folders.
        output: the file to write; its folder is made if need be.
        lang: ``en`` or ``ja``.

    Raises:
        RunError: a run that cannot be read, two of one name, or a page that cannot be written.
        UsageError: another language.
    """
    return save_page(build_report([read_run(path) for path in paths], lang), output)


def save_page(page: str, output: str | Path) -> Path:
    """Write a page beside its place and move it there, so that an earlier one stays whole until then.

    Raises:
        RunError: the file cannot be written.
    """
    target = Path(output)
    if target.is_dir():
        raise RunError(f"output '{target}' is a folder; a file such as report.html is accepted. Name one in it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, page)
    except OSError as error:
        raise RunError(f"output '{target}' cannot be written ({error.strerror}). Name another with --output.") from None
    return target


def _replace(target: Path, page: str) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(page)
        beside.chmod(0o644)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _context(records: Sequence[RunRecord], found: Finding, text: Text) -> dict[str, Any]:
    shown = exhibits(records)
    names = [r.name for r in records]
    scorers = dict.fromkeys(
        str(r.config.get("scorer")) for r, e in zip(records, found.evidence, strict=True) if e.status != "unscored"
    )
    quantised = any("smollm2-135m" in str(r.config.get("model", "")).lower() for r in records)
    return {
        "lang": text.lang,
        "version": __version__,
        "css": Markup(page_resource("page.css")),
        "names": names,
        "runs": text.join(names),
        "finding": found,
        "scorers": text.join(list(scorers)),
        "notices": notices(records, found, text),
        "figures": figures(records, text),
        "values": final_rows(records, found.evidence, text),
        "observed": observed(records, text),
        "alarms": alarm_rows(records, text),
        "advice": alarm_advice(records, text),
        "comparison": found.comparison,
        "compared": comparison_rows(found.comparison, text) if found.comparison else [],
        "exhibits": shown,
        "prompt_total": len({a.prompt_id for r in records for rows in r.samples.values() for a in rows}),
        "settings": settings_rows(records),
        "meaning": numbers_rows(records, text),
        "peers": {r.name: _list(r.settings, "peers") for r in records},
        "engines": {r.name: (r.settings or {})["engine"] for r in records if _has_engine(r)},
        "data": data_parts(records, text),
        "environment": environment_rows(records),
        "methods": [*_METHODS, *(["quantised"] if quantised else []), "filter"],
    }


def page_resource(name: str) -> str:
    """A template or style sheet as it was installed."""
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _list(mapping: Mapping[str, Any] | None, key: str) -> list[dict[str, Any]]:
    value = (mapping or {}).get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _has_engine(record: RunRecord) -> bool:
    engine = (record.settings or {}).get("engine")
    return isinstance(engine, dict) and {"engine", "reason"} <= engine.keys()
