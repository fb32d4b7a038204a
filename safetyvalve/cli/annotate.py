"""``safetyvalve annotate``: people judge answers side by side while models train; their votes train the next round."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetyvalve.cli import annotate_plan
from safetyvalve.errors import UsageError

if TYPE_CHECKING:
    from safetyvalve.annotate import Database

__all__ = ["app"]

app = typer.Typer(
    help="Have people judge answers, blind and side by side; export their votes as preference data.",
    no_args_is_help=True,
)
app.command("plan")(annotate_plan.plan)

Db = Annotated[str, typer.Option(help="A file for SQLite, or postgresql://USER@HOST/NAME.")]
_DB = "annotate.db"


@app.command()
def serve(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, finished or training, or JSONL of answers. None: what the database has."),
    ] = None,
    db: Db = _DB,
    pairing: Annotated[
        Literal["runs", "start", "samples"] | None,
        typer.Option(help="Runs against each other, a run against its start, or samples of a run against each other."),
    ] = None,
    overlap: Annotated[int, typer.Option(help="Annotators that judge each item.")] = 1,
    repeats: Annotated[float, typer.Option(help="Share of items shown again, sides swapped.")] = 0.05,
    gold_every: Annotated[int, typer.Option(help="One gold item in so many judgments; 0 for none.")] = 10,
    corrections: Annotated[bool, typer.Option(help="Whether answers may be corrected.")] = True,
    per_step: Annotated[int | None, typer.Option(min=1, help="Most pairs drawn at random from one step.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help="A word to hide in answers; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8471,
    public_url: Annotated[
        str | None, typer.Option(help="Where people reach the server, such as https://judge.example.org.")
    ] = None,
    lease: Annotated[float, typer.Option(min=0.01, help="Minutes that an item stays with who does nothing.")] = 30,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between looks at the runs.")] = 5,
    invite: Annotated[int, typer.Option(min=0, max=200, help="Annotator links to print.")] = 0,
) -> None:
    """Serve the labelling pages; prints a link that signs the administrator in, once.

    New samples of a training run join the queue as they appear. Beyond this machine the server needs --public-url with
    https, which a proxy in front of it provides.
    """
    _check_installed()
    from safetyvalve.annotate import Rules
    from safetyvalve.annotate.running import Start, run_server

    run_server(
        Start(
            sources=tuple(sources or ()),
            db=db,
            pairing=pairing,
            rules=Rules(overlap, repeats, gold_every, corrections),
            per_step=per_step,
            words=tuple(mask or ()),
            host=host,
            port=port,
            public_url=public_url,
            lease=lease,
            poll=poll,
            invites=invite,
        ),
        say=typer.echo,
    )


@app.command()
def export(
    output: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)],
    db: Db = _DB,
    weigh: Annotated[
        Literal["vote", "item", "gold"],
        typer.Option(help="Every vote counts one; every item counts one; or by gold items answered right."),
    ] = "vote",
    weights: Annotated[
        Path | None, typer.Option(help='JSON of further weights by annotator: {"annotator-1a2b3c4d": 0.5}.')
    ] = None,
) -> None:
    """Write votes and corrections as preference data, pairs, SFT rows, verdicts, CSV, an archive and a manifest.

    `safetyvalve train --data OUTPUT/preferences.jsonl` trains the next round on them.
    """
    _check_installed()
    import json

    from safetyvalve.annotate import export_files, write_export

    given = None
    if weights is not None:
        try:
            given = json.loads(weights.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--weights is '{weights}', which cannot be read ({error}); a JSON object is accepted."
            ) from None
        if not isinstance(given, dict):
            raise UsageError(f"--weights is '{weights}', which holds no JSON object of names and numbers.")
    with _open(db).read() as session:
        files = export_files(session, weigh=weigh, weights=given)
    write_export(files, output)
    manifest = json.loads(files["manifest.json"])
    for name, rows in manifest["rows"].items():
        typer.echo(f"{output / name}: {rows} rows")
    for reason, count in manifest["left_out"].items():
        typer.echo(f"  left out of preferences: {reason}: {count}")
    typer.echo(f"head of the event log: {manifest['event_log_head']}")


@app.command(name="import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder that `annotate export` made.", show_default=False)],
    db: Db = _DB,
) -> None:
    """Fill an empty database from an export, event log and all."""
    _check_installed()
    from safetyvalve.annotate import Database
    from safetyvalve.annotate.archive import import_archive

    with Database(db).write() as session:
        counts = import_archive(session, folder)
    typer.echo(", ".join(f"{n} {name}" for name, n in counts.items()))


@app.command()
def verify(
    db: Db = _DB,
    head: Annotated[
        str | None, typer.Option(help="A head kept elsewhere, as printed here or in a manifest: NUMBER:HASH.")
    ] = None,
) -> None:
    """Check the event log and everything it vouches for; without --head a log rewritten as a whole goes unseen."""
    _check_installed()
    from safetyvalve.annotate import Head
    from safetyvalve.annotate import verify as check
    from safetyvalve.annotate.events import head as last

    exported = None
    if head is not None:
        seq, _, value = head.partition(":")
        if not seq.isdecimal() or len(value) != 64:
            raise UsageError(f"--head is '{head}'; NUMBER:HASH is accepted, as in manifest.json.")
        exported = Head(int(seq), value)
    with _open(db).read() as session:
        problems = check(session, exported)
        typer.echo(f"head of the event log: {last(session)}")
    for problem in problems[:50]:
        typer.echo(problem)
    if problems:
        typer.echo(f"{len(problems)} problems")
        raise typer.Exit(1)
    typer.echo(
        "the log verifies" + ("" if exported else " (against itself; give --head to check it against a kept head)")
    )


@app.command()
def forget(
    name: Annotated[str, typer.Argument(help="The random name, such as annotator-1a2b3c4d.", show_default=False)],
    db: Db = _DB,
) -> None:
    """Erase an annotator's votes, corrections and reports. Their items are judged anew."""
    _check_installed()
    from sqlalchemy import select

    from safetyvalve.annotate.events import milliseconds
    from safetyvalve.annotate.models import Annotator
    from safetyvalve.annotate.people import erase

    with _open(db).write() as session:
        found = session.scalars(select(Annotator).where(Annotator.name == name, Annotator.role == "annotator")).first()
        if found is None:
            raise UsageError(f"there is no annotator '{name}'; names stand on the administrator's page of people.")
        counts = erase(session, found, actor="command line", now=milliseconds())
    typer.echo(", ".join(f"{n} {kind}s" for kind, n in counts.items()) + " erased")


def _check_installed() -> None:
    """Say which packages of the extra are missing, instead of a traceback."""
    from importlib.util import find_spec

    needed = ("fastapi", "uvicorn", "sqlalchemy", "multipart", "markdown_it", "nh3", "regex")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UsageError(
            f"this command needs {', '.join(missing)}, not installed here. `pip install 'safetyvalve[annotate]'`."
        )


def _open(db: str) -> Database:
    from safetyvalve.annotate import Database

    return Database(db, create=False)
