"""A command whose options are also the keys of a YAML file, given by ``--config``; the command line wins over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperOption

from safetyvalve.errors import UsageError

if TYPE_CHECKING:
    from safetyvalve.config import Key, Setting

__all__ = ["ACTIONS", "RECORDED", "ConfiguredCommand", "config_option", "key_of", "options_of"]

ACTIONS = frozenset({"config", "help", "dry_run", "profile"})
"""Options that say what to do now, and are no keys."""
RECORDED = frozenset({"name", "task"})
"""Keys of a run folder's config.yaml that say which run it was, and set nothing when it is read again."""


def options_of(command: Any) -> dict[str, TyperOption]:
    """The options that are keys, by name, in the order of the command's signature."""
    return {p.name: p for p in command.params if isinstance(p, TyperOption) and p.name not in ACTIONS}


def config_option(group: str) -> Any:
    """The option ``--config`` of a :class:`ConfiguredCommand`."""
    return typer.Option(
        None,
        "--config",
        callback=_load,
        is_eager=True,
        show_default=False,
        rich_help_panel=group,
        help="YAML of these options, by name with underscores; the command line wins. Of a run's config.yaml: repeats "
        "that run. Relative paths start at the current folder, as on the command line.",
    )


class ConfiguredCommand(TyperCommand):
    """Says file and line where a value that is refused came from the file, and lets an option replace a group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = getattr(error.param, "name", None)
            if place := _place(ctx, name):
                raise UsageError(f"{place}: {name}: {error.message}") from None
            raise

    def invoke(self, ctx: Any) -> Any:
        _drop_foreign_coefficients(ctx)
        try:
            return super().invoke(ctx)
        except UsageError as error:
            name = str(error).partition(" ")[0].lstrip("-").replace("-", "_")
            if place := _place(ctx, name):
                raise UsageError(f"{place}: {error}") from None
            raise


def _load(ctx: typer.Context, value: Path | None) -> Path | None:
    """Runs before the other options are read, and gives them the file's values as defaults."""
    if value is None or ctx.resilient_parsing:
        return value
    from safetyvalve.config import Key, read_settings

    keys = {name: key_of(option) for name, option in options_of(ctx.command).items()}
    settings = read_settings(value, keys | {name: Key(str) for name in RECORDED})
    for name in RECORDED:
        settings.pop(name, None)
    ctx.meta[__name__] = (value, settings)
    ctx.default_map = {name: setting.value for name, setting in settings.items()}
    return value


def key_of(option: TyperOption) -> Key:
    """What the file may hold for an option. Choices and ranges are checked where the command line's are."""
    from safetyvalve.config import Key

    kind = option.type_descriptor.annotation
    if option.multiple:
        kind = kind.__args__[0]
    return Key(
        kind if kind in (bool, int, float, Path) else str,
        many=option.multiple,
        optional=option.default is None and not option.required,
    )


def _place(ctx: Any, name: str | None) -> str | None:
    """``FILE:LINE`` of a value that the file decided."""
    file, settings = ctx.meta.get(__name__, (None, {}))
    setting: Setting | None = settings.get(name)
    source = ctx.get_parameter_source(name) if setting else None
    return f"{file}:{setting.line}" if setting and source and source.name == "DEFAULT_MAP" else None


def _drop_foreign_coefficients(ctx: Any) -> None:
    """With ``--objective dpo`` over the file of an RPO run, the file's coefficients of RPO alone go with its objective.

    Such a pair within the file, or on the command line, is a contradiction and refused later on.
    """
    source = ctx.get_parameter_source("objective")
    if __name__ not in ctx.meta or source is None or source.name != "COMMANDLINE":
        return
    from safetyvalve.training import OBJECTIVES, Objective

    if (chosen := ctx.params["objective"]) not in OBJECTIVES:
        return
    kept = Objective.without_foreign({"name": chosen, **ctx.params})
    for name, option in options_of(ctx.command).items():
        if name not in kept and (place := _place(ctx, name)) and ctx.params[name] != option.default:
            typer.echo(f"{place}: {name} is left out, which --objective {chosen} does not take", err=True)
            ctx.params[name] = option.default
