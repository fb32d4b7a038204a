"""``safetyvalve init``: a commented configuration, made from the options of ``safetyvalve train`` themselves."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Literal

import typer

from safetyvalve.errors import UsageError

__all__ = ["init", "template"]

_WIDTH = {"en": 110, "ja": 70}
"""Characters of a comment line; Japanese ones are twice as wide."""


def init(
    preset: Literal["pilot", "standard"] = typer.Option(
        "pilot", help="pilot: a few hundred comparisons, a short run, measured on the way. standard: a whole run."
    ),
    output: Path = typer.Option(Path("run.yaml"), help="File to write; one that exists is never overwritten."),
    data: str | None = typer.Option(None, help="Your comparisons, to stand in the file.", show_default=False),
    lang: Literal["en", "ja"] = typer.Option(
        "en", help="Language of the preset's comments and of the run's report: en or ja."
    ),
) -> None:
    """Write a commented configuration for `safetyvalve train --config`.

    What the preset sets stands first, with its grounds; every other option follows as a comment with its default.
    """
    text = template(preset, data=data, lang=lang, file=output)
    try:
        with output.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"'{output}' exists; nothing was changed. Name a new file with --output.") from None
    except OSError as error:
        raise UsageError(f"'{output}' cannot be written ({error.strerror}). Name another --output.") from None
    print(f"wrote {output}")
    print(f"next: look through it, then `safetyvalve train --config {output}`")


def template(preset: str, *, data: str | None = None, lang: str = "en", file: Path = Path("run.yaml")) -> str:
    """The file's text.

    Args:
        preset: a key of :data:`safetyvalve.cli.presets.PRESETS`.
        data: stands in place of the preset's example of a file name.
        lang: of the preset's comments and of the run's report; the options' own help is English.
        file: its name, for the comments.
    """
    from safetyvalve.cli import app
    from safetyvalve.cli.configured import options_of
    from safetyvalve.cli.presets import DEFAULT, PRESETS, WORDS

    commands: Any = typer.main.get_command(app)
    options = options_of(commands.commands["train"])
    chosen, words = PRESETS[preset], WORDS[lang]
    given = {"data": data, "lang": lang}
    lines = [line for text in (preset, "use", "paths") for line in _comment(words[text].format(file=file), lang)]
    lines += ["", f"# ---- {words['set']}", ""]
    for name, choice in chosen.items():
        value = options[name].default if choice.value is DEFAULT else choice.value
        lines += [*_comment(getattr(choice, lang), lang), _line(name, given.get(name) or value), ""]
    lines += [f"# ---- {words['rest']}", ""]
    panel = None
    for name, option in options.items():
        if name in chosen:
            continue
        if option.rich_help_panel != panel:
            panel = option.rich_help_panel
            lines += [f"# -- {panel}"]
        lines += [*_comment(option.help or "", "en"), "#" + _line(name, option.default)]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any) -> str:
    import yaml

    return yaml.safe_dump({name: value}, allow_unicode=True, width=10**6).rstrip("\n")


def _comment(text: str, lang: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH[lang], break_long_words=lang == "ja", break_on_hyphens=False)
    return [f"# {line}" for line in lines]
