"""Scripted annotators as a process of their own: one request a second each, patient with a server that dies.

``python -m tests.annotate.crowd LINKS-FILE VOTES RATE`` prints one JSON object: times of pages, and every vote sent.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import uuid
from itertools import count
from pathlib import Path

import httpx2 as httpx


def _base(link: str) -> str:
    return re.match(r"http://[^/]+", link)[0]  # type: ignore[index]


class Crowd:
    """All annotators.

    Args:
        links: an invite link each.
        votes: how many votes all of them give together.
        rate: requests a second of each.
    """

    def __init__(self, links: list[str], votes: int, rate: float) -> None:
        self.links, self.left, self.gap = links, votes, 1 / rate
        self.pages: list[float] = []
        self.sent: list[str] = []
        self.failures = 0

    async def run(self) -> None:
        # Clients are made beforehand: that takes long enough to push annotators together who should come evenly.
        clients = [httpx.AsyncClient(base_url=_base(link), timeout=30, verify=False) for link in self.links]
        await asyncio.gather(*(self.annotator(*one) for one in zip(clients, self.links, count())))

    async def annotator(self, client: httpx.AsyncClient, link: str, number: int) -> None:
        # Spread over a whole judgment, a page and a vote: people are not in step with each other.
        await asyncio.sleep(2 * self.gap * number / len(self.links))
        async with client:
            await self.send(client, "POST", link.removeprefix(_base(link)), timed=False)
            page = await self.send(client, "GET", "/guideline", timed=False)
            csrf = re.search(r'name="csrf" value="(\w+)"', page)[1]  # type: ignore[index]
            await self.send(client, "POST", "/guideline", timed=False, data={"csrf": csrf, "agreed": "yes"})
            while self.left > 0:
                page = await self.send(client, "GET", "/judge")
                found = re.search(r'action="/judge/(\w{32})"', page)
                if found is None:
                    return
                practice = 'class="practice"' in page
                if not practice:
                    if self.left <= 0:
                        return
                    self.left -= 1
                vote = str(uuid.uuid4())
                body = {"id": vote, "assignment": found[1], "choice": "1", "active_ms": 900}
                await self.send(client, "POST", "/api/votes", json=body, headers={"x-csrf-token": csrf})
                if not practice:
                    self.sent.append(vote)

    async def send(
        self, client: httpx.AsyncClient, method: str, path: str, *, timed: bool = True, **options: object
    ) -> str:
        """One request at this annotator's pace, again and again until the server has answered it."""
        while True:
            started = time.perf_counter()
            try:
                answer = await client.request(method, path, **options)  # type: ignore[arg-type]
            except httpx.TransportError:
                self.failures += 1
                await asyncio.sleep(0.5)
                continue
            spent = time.perf_counter() - started
            if answer.status_code >= 500:
                self.failures += 1
                await asyncio.sleep(0.5)
                continue
            assert answer.status_code in (200, 303), (path, answer.status_code, answer.text[:500])
            if timed:
                self.pages.append(spent)
            await asyncio.sleep(max(0.0, self.gap - spent))
            return str(answer.text)


if __name__ == "__main__":
    links_file, votes, rate = sys.argv[1:]
    crowd = Crowd(json.loads(Path(links_file).read_text()), int(votes), float(rate))
    asyncio.run(crowd.run())
    print(json.dumps({"pages": crowd.pages, "sent": crowd.sent, "failures": crowd.failures}))
