"""New samples join the queue as a run writes them."""

from __future__ import annotations

import threading

from sqlalchemy import select

from safetyvalve.annotate.batches import fill, source_of
from safetyvalve.annotate.database import Busy
from safetyvalve.annotate.models import Batch
from safetyvalve.annotate.site import Site
from safetyvalve.errors import SafetyValveError

__all__ = ["look", "watching"]


def look(site: Site) -> int:
    """Read what the batches' runs have written since the last look; returns how many items were added.

    A file that cannot be read is told to the administrator and tried again; it does not stop the others.
    """
    with site.database.read() as session:
        batches = [b.id for b in session.scalars(select(Batch).order_by(Batch.id)) if b.sources["paths"]]
    added, troubles = 0, []
    for batch_id in batches:
        try:
            with site.database.write() as session:
                batch = session.get_one(Batch, batch_id)
                added += fill(session, batch, source_of(batch), site.secret, per_file=site.settings.per_file)
        except (SafetyValveError, OSError) as error:
            troubles.append(str(error))
    site.troubles[:] = troubles
    if added:
        site.refresh_mask()
    return added


class watching:  # noqa: N801 - used as ``with watching(site):``
    """Looks at the runs again and again, in a thread, until left."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.site.stop.set()
        self.thread.join(timeout=10)

    def _run(self) -> None:
        while not self.site.stop.wait(self.site.settings.poll_seconds):
            try:
                look(self.site)
            except Busy:
                continue  # the next look will do
