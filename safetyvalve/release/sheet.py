"""Tables of words, written once and shown as Markdown, as an HTML fragment or as CSV; commands print them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup, escape

from safetyvalve.data.cells import safe_cell
from safetyvalve.errors import UsageError

__all__ = ["Sheet", "Table", "Words", "as_csv", "as_html", "as_markdown", "write_files"]


class Words:
    """Messages of one language, with their places filled.

    Args:
        lang: a key of ``messages``.
        messages: language -> key -> message.

    Raises:
        UsageError: a language that there is none of.
    """

    def __init__(self, lang: str, messages: Mapping[str, Mapping[str, str]]) -> None:
        if lang not in messages:
            raise UsageError(f"lang is '{lang}'; accepted: {', '.join(messages)}.")
        self.lang, self._messages = lang, messages[lang]

    def __call__(self, message: str, **values: object) -> str:
        return self._messages[message].format(**values)


@dataclass(frozen=True)
class Table:
    """Rows of texts; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    chart: Markup | None = None
    """An SVG that shows the same."""


@dataclass(frozen=True)
class Sheet:
    """What a command says: sentences, tables, and what to know."""

    title: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    notes_title: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def as_markdown(sheet: Sheet) -> str:
    """Headings, pipe tables and lists."""

    def cell(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

    lines = [f"## {sheet.title}", "", *(f"{cell(s)}\n" for s in sheet.sentences)]
    for table in sheet.tables:
        lines += [f"### {cell(table.title)}", "", "| " + " | ".join(map(cell, table.columns)) + " |"]
        lines += ["| --- |" + " ---: |" * (len(table.columns) - 1)]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for row in table.rows]
        lines += [""]
    if sheet.notes:
        lines += [f"### {sheet.notes_title}", "", *(f"- {cell(n)}" for n in sheet.notes), ""]
    return "\n".join(lines)


def as_html(sheet: Sheet, name: str) -> Markup:
    """A ``<section>`` without scripts, styles of its own or links; ``name`` is its class and the prefix of its ids."""
    parts = [Markup('<section class="{0}" id="{0}">\n<h2>{1}</h2>').format(name, sheet.title)]
    parts += [Markup("<p>{}</p>").format(s) for s in sheet.sentences]
    for table in sheet.tables:
        parts.append(Markup("<h3>{}</h3>").format(table.title))
        if table.chart is not None:
            parts.append(table.chart)
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(c) for c in table.columns)
        parts.append(Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>").format(head))
        for row in table.rows:
            first = Markup('<th scope="row">{}</th>').format(row[0])
            rest = Markup("").join(Markup("<td>{}</td>").format(escape(c)) for c in row[1:])
            parts.append(Markup("<tr>{}{}</tr>").format(first, rest))
        parts.append(Markup("</tbody>\n</table>"))
    if sheet.notes:
        listed = Markup("").join(Markup("<li>{}</li>").format(n) for n in sheet.notes)
        parts.append(Markup("<h3>{}</h3>\n<ul>{}</ul>").format(sheet.notes_title, listed))
    return Markup("\n").join([*parts, Markup("</section>\n")])


def as_csv(sheet: Sheet) -> bytes:
    """All tables under one another, for a spreadsheet: UTF-8 with a byte order mark, cells that no program runs."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    for table in sheet.tables:
        for row in ([table.title], table.columns, *table.rows, []):
            writer.writerow([safe_cell(c) for c in row])
    for note in sheet.notes:
        writer.writerow([safe_cell(note)])
    return stream.getvalue().encode("utf-8-sig")


def write_files(sheet: Sheet, record: str, name: str, folder: Path) -> list[Path]:
    """NAME.json, NAME.md, NAME.html (a fragment) and NAME.csv; returns their paths.

    Raises:
        UsageError: the folder cannot be written.
    """
    contents = {
        f"{name}.json": (record + "\n").encode(),
        f"{name}.md": as_markdown(sheet).encode(),
        f"{name}.html": str(as_html(sheet, name)).encode(),
        f"{name}.csv": as_csv(sheet),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in contents.items():
            (folder / file).write_bytes(data)
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be written ({error.strerror}); name another folder.") from None
    return [folder / file for file in contents]
