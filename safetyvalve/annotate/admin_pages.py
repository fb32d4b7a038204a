"""The administrator's pages for batches, reports, guideline and export."""

from __future__ import annotations

import tempfile
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from safetyvalve.annotate import batches
from safetyvalve.annotate.events import append, head
from safetyvalve.annotate.export import WEIGHINGS, Weighing, export_files, zip_of
from safetyvalve.annotate.fields import CLIENT_ID, Csrf, Notice, Number
from safetyvalve.annotate.models import Annotator, Assignment, Batch, Item, Report
from safetyvalve.annotate.refusals import Refusal
from safetyvalve.annotate.rendering import render
from safetyvalve.annotate.site import visit
from safetyvalve.annotate.sources import Source
from safetyvalve.annotate.when import date_of
from safetyvalve.hashing import digest

__all__ = ["router"]

router = APIRouter(prefix="/admin")


@router.get("")
def overview(request: Request, notice: Notice = "", n: Annotated[int, Query(ge=0, le=10**9)] = 0) -> Response:
    """Batches with their rules, open reports, export."""
    with visit(request, role="admin") as v:
        values = {
            "batches": [_batch(v.session, b) for b in v.session.scalars(select(Batch).order_by(Batch.id.desc()))],
            "reports": _open_reports(v.session),
            "weighings": WEIGHINGS,
            "head": str(head(v.session)),
            "troubles": list(v.site.troubles),
        }
    told = {"": "", "changed": v.text("admin.changed"), "added": v.text("admin.added", n=n)}.get(notice, "")
    return v.page("admin.html", here="admin", notice=told, error="", **values)


def _batch(session: Session, batch: Batch) -> dict[str, Any]:
    items = (Item.batch_id == batch.id, Item.kind == "regular", ~Item.withdrawn)
    leased = select(func.count()).select_from(Assignment).join(Item).where(Item.batch_id == batch.id)
    done = (
        select(Assignment.item_id)
        .where(Assignment.slot.is_not(None), Assignment.state == "done")
        .group_by(Assignment.item_id)
        .having(func.count() >= batch.overlap)
    )
    return {
        **{
            f: getattr(batch, f)
            for f in ("id", "name", "is_open", "overlap", "repeat_share", "gold_every", "may_correct")
        },
        "pairing": _pairing(session, batch),
        "n_items": session.scalar(select(func.count()).select_from(Item).where(*items)),
        "complete": session.scalar(select(func.count()).select_from(Item).where(*items, Item.id.in_(done))),
        "leased": session.scalar(leased.where(Assignment.state == "leased")),
    }


def _pairing(session: Session, batch: Batch) -> str:
    """As the pages say it: answers from a file meet those in the same row, whatever pairing runs would have."""
    source = session.scalar(select(Item.source_a).where(Item.batch_id == batch.id).limit(1))
    return "file" if source and "step" not in source else str(batch.sources["pairing"])


def _open_reports(session: Session) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Report, Annotator.name, Item)
        .join(Annotator, Report.annotator_id == Annotator.id)
        .join(Item, Report.item_id == Item.id)
        .where(Report.resolved.is_(None))
        .order_by(Report.created_at)
        .limit(50)
    )
    return [
        {
            "id": report.id,
            "annotator": name,
            "when": date_of(report.created_at),
            "reason": report.reason,
            "prompt": render(item.prompt[-1]["content"]),
            "a": render(item.answer_a),
            "b": render(item.answer_b),
        }
        for report, name, item in rows
    ]


@router.post("/batches/{number}")
def change_rules(
    request: Request,
    number: Number,
    overlap: Annotated[int, Form(ge=1, le=100)],
    repeat_share: Annotated[float, Form(ge=0, le=1, allow_inf_nan=False)],
    gold_every: Annotated[int, Form(ge=0, le=10_000)],
    may_correct: Annotated[Literal["yes", ""], Form()] = "",
    is_open: Annotated[Literal["yes", ""], Form()] = "",
    csrf: Csrf = "",
) -> Response:
    """Change how a batch is judged."""
    rules = batches.Rules(overlap, repeat_share, gold_every, bool(may_correct))
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        batch = v.session.get(Batch, number)
        if batch is None:
            raise Refusal(404, "not_found")
        batches.change_rules(v.session, batch, rules, is_open=bool(is_open), actor=v.me.name)
    return v.go("/admin?notice=changed")


@router.post("/batches")
def upload(
    request: Request,
    name: Annotated[str, Form(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")],
    file: Annotated[UploadFile, File()],
    csrf: Csrf = "",
) -> Response:
    """A batch from answers made elsewhere. The same file under the same name adds nothing twice."""
    raw = file.file.read()
    with tempfile.TemporaryDirectory() as folder, visit(request, write=True, role="admin", csrf=csrf) as v:
        # The content names the file, so that a second upload is a second batch only if it differs.
        place = FilePath(folder) / f"{digest([name, raw.decode('utf-8', 'replace')])[:16]}.jsonl"
        place.write_bytes(raw)
        added = batches.fill_from_upload(v.session, Source.of([place]), name, v.site.secret, actor=v.me.name)
    v.site.refresh_mask()
    return v.go(f"/admin?notice=added&n={added}")


@router.post("/reports/{key}")
def resolve_report(
    request: Request,
    key: Annotated[str, Path(pattern=CLIENT_ID)],
    decision: Annotated[Literal["withdrawn", "kept"], Form()],
    csrf: Csrf = "",
) -> Response:
    """Withdraw a reported item, or keep it."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        report = v.session.get(Report, key)
        if report is None:
            raise Refusal(404, "not_found")
        report.resolved = decision
        if decision == "withdrawn":
            v.session.get_one(Item, report.item_id).withdrawn = True
        append(
            v.session, "resolved", v.me.name, {"report": key, "item": report.item_id, "decision": decision}, at=v.now
        )
    return v.go("/admin?notice=changed")


@router.get("/guideline")
def guideline_editor(request: Request, notice: Notice = "") -> Response:
    """The guideline in both languages."""
    with visit(request, role="admin") as v:
        words = {lang: batches.guideline(v.session, lang) for lang in ("en", "ja")}
    told = v.text("admin.changed") if notice else ""
    return v.page("admin_guideline.html", here="guideline", notice=told, **words)


@router.post("/guideline")
def store_guideline(
    request: Request,
    en: Annotated[str, Form(min_length=1, max_length=60_000)],
    ja: Annotated[str, Form(min_length=1, max_length=60_000)],
    csrf: Csrf = "",
) -> Response:
    """Store the guideline; who has agreed to an older one is not asked again."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        for lang, words in (("en", en), ("ja", ja)):
            batches.set_setting(v.session, f"guideline.{lang}", words.replace("\r\n", "\n").replace("\x00", ""))
        append(v.session, "guideline", v.me.name, {"en": digest(en), "ja": digest(ja)}, at=v.now)
    return v.go("/admin/guideline?notice=changed")


@router.post("/export")
def export(request: Request, weigh: Annotated[Weighing, Form()] = "vote", csrf: Csrf = "") -> Response:
    """All files as a zip."""
    with visit(request, write=True, role="admin", csrf=csrf) as v:
        append(v.session, "export", v.me.name, {"weigh": weigh}, at=v.now)
    with visit(request, role="admin", csrf=csrf) as v:
        data = zip_of(export_files(v.session, weigh=weigh))
    headers = {"Content-Disposition": 'attachment; filename="safetyvalve-export.zip"'}
    return Response(data, media_type="application/zip", headers=headers)
