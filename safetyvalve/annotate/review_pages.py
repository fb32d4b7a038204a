"""Results, for reviewers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from safetyvalve.annotate.results import annotator_results, batch_results, judgments
from safetyvalve.annotate.site import visit

__all__ = ["router"]

router = APIRouter()


@router.get("/results")
def results(request: Request) -> Response:
    """What the votes say so far."""
    with visit(request, role="reviewer") as v:
        found = judgments(v.session)
        batches, annotators = batch_results(v.session, found), annotator_results(v.session, found)
    return v.page("results.html", here="results", batches=batches, annotators=annotators)
