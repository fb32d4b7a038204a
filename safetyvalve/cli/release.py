"""``safetyvalve release``: a model let out in stages, on evidence that may be looked at daily and a person's "
"approval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetyvalve.errors import ReleaseDamagedError, UsageError

if TYPE_CHECKING:
    from safetyvalve.release.staged.decision import Assessment
    from safetyvalve.release.staged.folder import Release

__all__ = ["app"]

app = typer.Typer(
    help="Let a model out in stages: gates on evidence that may be looked at daily, and a person's recorded approval.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="Folder of the release.", show_default=False)]
Lang = Annotated[Literal["en", "ja"], typer.Option(help="Language of the answer.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    folder: Folder,
    candidate: Annotated[
        str | None, typer.Option(help="Model to let out, as verdict files name it. Default: the run's name.")
    ] = None,
    control: Annotated[str, typer.Option(help="Model that is out, as verdict files name it.")] = "production",
    run: Annotated[Path | None, typer.Option(help="Run that trained the candidate; says who trained it.")] = None,
    trainer: Annotated[list[str] | None, typer.Option(help="Who trained it, also; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the release. Default: the folder's name.")] = None,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the file's comments.")] = "en",
) -> None:
    """Make a release folder with a commented release.yaml: stages, guardrails, margins, error rates.

    Look through it before the first `release record`, which fixes it.
    """
    from safetyvalve.release.staged.folder import create_release
    from safetyvalve.release.staged.template import template
    from safetyvalve.release.staged.trainers import trained_by

    trained = None if run is None else trained_by(run)
    trainers = [t for t in [trained and trained.trainer, *(trainer or [])] if t]
    if not trainers:
        raise UsageError(
            "it is not known who trained the candidate, and nobody may approve their own model. Name a run that "
            "records "
            "it with --run, or say it with --trainer."
        )
    model = candidate or (trained and trained.name)
    if not model:
        raise UsageError("--candidate is missing; the model's name in verdict files is accepted, or a --run.")
    title = name or folder.resolve().name
    create_release(folder, template(title, model, control, list(dict.fromkeys(trainers)), lang=lang))
    typer.echo(f"wrote {folder / 'release.yaml'} (trainers: {', '.join(trainers)})")
    typer.echo(f"next: look through it, then `safetyvalve release simulate {folder}` and `safetyvalve release record`")


@app.command()
def status(
    folder: Folder,
    head: Annotated[
        str | None, typer.Option(help="Head of the log from an earlier report, NUMBER:HASH, to check against.")
    ] = None,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """Verify the release against its log and say what would be decided now; changes nothing.

    Exits as `release decide` does.
    """
    from safetyvalve.cli.release_page import show
    from safetyvalve.release.staged.record import release_record

    with _told():
        record = release_record(folder, head=head)
    show(record, lang=lang, json=json, checked=head)
    raise typer.Exit(record.exit_code)


@app.command()
def record(
    folder: Folder,
    files: Annotated[
        list[Path],
        typer.Argument(help="Observations (CSV, JSONL), verdicts, or run folders with rewards.", show_default=False),
    ],
    stage: Annotated[
        str | None, typer.Option(help="Stage under which all rows were observed; the present one.")
    ] = None,
    variant: Annotated[
        Literal["candidate", "control"] | None, typer.Option(help="Whose answers a run folder holds.")
    ] = None,
    utc_offset: Annotated[str | None, typer.Option(help="Of times without one, such as +09:00.")] = None,
    lang: Lang = "en",
) -> None:
    """Take in observations, each once; rolls back at once if they show harm.

    Columns: time, variant (candidate, control), metric, value, unit; source (human, judge) for people's metrics; stage
    where a time does not tell it. A file recorded before adds nothing. A row that is not accepted stops the command
    with its place, and nothing of its file is taken.
    """
    from safetyvalve.release.staged.decision import stop_on_harm
    from safetyvalve.release.staged.recording import record as take_in
    from safetyvalve.release.staged.text import Words

    words = Words(lang)
    with _told(), _opened(folder) as release:
        for file in files:
            done = take_in(release, file, offset=utc_offset, variant=variant, stage=stage)
            typer.echo(f"{file}: " + words("recorded", added=done.added, repeated=done.repeated))
            if done.earlier:
                typer.echo("  " + words("recorded.earlier", n=done.earlier))
            for reason, n in done.left_out.items():
                typer.echo("  " + words("recorded.left_out", n=n, reason=reason))
            found = stop_on_harm(release)  # after each: a later file may be refused
            if found.outcome == "rollback":
                break
        typer.echo(words("head", head=release.head))
    if found.outcome == "rollback":
        for code, values in found.reasons:
            typer.echo(words.reason(code, values))
        typer.echo(words("stopped"))
        raise typer.Exit(found.exit_code)


@app.command()
def decide(folder: Folder, lang: Lang = "en", json: Json = False) -> None:
    """Decide on the evidence and carry it out: go on to the next stage, roll back, or wait.

    Exits 0 (promoted, or the last stage holds), 10 (a person's approval is missing), 11 (pause: inconclusive), 12
    (hold: a gate failed or the valve tripped), 13 (rolled back), 14 (the record was tampered with), 2 (wrong use).
    """
    from safetyvalve.release.staged.decision import decide as carry_out

    _act(folder, carry_out, lang, json)


@app.command()
def approve(
    folder: Folder,
    approver: Annotated[str, typer.Option(help="Who approves; not who trained.", show_default=False)],
    reason: Annotated[str, typer.Option(help="What was looked at, and why it is enough.", show_default=False)],
    days: Annotated[
        float | None, typer.Option(help="Until it expires. Default: the most that release.yaml allows.")
    ] = None,
    evidence: Annotated[
        str | None,
        typer.Option(help="Hash of the evidence that was looked at, as status prints it; must be the present one."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Private OpenSSH key, where release.yaml names signers.", show_default=False)
    ] = None,
    lang: Lang = "en",
) -> None:
    """Record a person's approval of the next stage, on the evidence as it is; more evidence voids it.

    Signed with an OpenSSH key where release.yaml names signers; else it is a recorded approval and not a signature.
    """
    from safetyvalve.release.staged.decision import approve as add
    from safetyvalve.release.staged.text import Words

    words = Words(lang)
    with _told(), _opened(folder) as release:
        given = add(release, approver, reason, days=days, seen=evidence, key=key)
        typer.echo(words.approval(given))
        form = words("approval.signed" if given.signed else "approval.recorded")
        typer.echo(words("approved", form=form))
        typer.echo(words("head", head=release.head))


@app.command()
def rollback(
    folder: Folder,
    reason: Annotated[str, typer.Option(help="What was seen.", show_default=False)],
    lang: Lang = "en",
) -> None:
    """Take all traffic away; anybody may, at any time. The release ends with it."""
    from safetyvalve.release.staged.decision import roll_back
    from safetyvalve.release.staged.text import Words

    words = Words(lang)
    with _told(), _opened(folder) as release:
        roll_back(release, reason)
        typer.echo(words("stopped"))
        typer.echo(words("head", head=release.head))


@app.command()
def simulate(
    folder: Folder,
    releases: Annotated[int, typer.Option(min=1, help="Simulated of each kind of candidate.")] = 2000,
    days: Annotated[int, typer.Option(min=1, help="Simulated at most in each stage.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    lang: Lang = "en",
    json: Json = False,
) -> None:
    """What the margins and traffic of release.yaml take: mistakes and days, by simulated candidates.

    Uses each guardrail's planning, looks at the gates every day, and reads no observations. A minute or two for 2,000.
    """
    import json as json_module

    from safetyvalve.cli.release_page import forecast
    from safetyvalve.release.staged.record import plain
    from safetyvalve.release.staged.settings import read_settings
    from safetyvalve.release.staged.simulate import simulate_release

    found = simulate_release(read_settings(folder / "release.yaml"), releases=releases, days=days, seed=seed)
    if json:
        typer.echo(json_module.dumps(plain(found), ensure_ascii=False, indent=2))
        return
    for line in forecast(found, lang=lang):
        typer.echo(line)


def _act(folder: Path, action: Callable[[Release], Assessment], lang: str, json: bool) -> None:
    from safetyvalve.cli.release_page import show
    from safetyvalve.release.staged.record import record_of

    with _told(), _opened(folder) as release:
        record = record_of(release, action(release))
    show(record, lang=lang, json=json)
    raise typer.Exit(record.exit_code)


@contextmanager
def _opened(folder: Path) -> Iterator[Release]:
    from safetyvalve.release.staged.folder import open_release

    with open_release(folder) as release:
        yield release


@contextmanager
def _told() -> Iterator[None]:
    """A record that does not verify has an exit status of its own: a script must not take it for a wrong option."""
    from safetyvalve.release.staged.decision import EXIT_CODES

    try:
        yield
    except ReleaseDamagedError as error:
        typer.echo(f"safetyvalve: {error}", err=True)
        raise typer.Exit(EXIT_CODES["damaged"]) from None
