"""The socket that the server listens on."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

from safetyvalve.annotate.running import _listen


def test_small_answers_are_not_held_back() -> None:
    """Nagle's algorithm and a client that acknowledges late would make 3 ms into 43."""

    async def accepted_without_delay(listener: socket.socket) -> bool:
        seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            seen.set_result(bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        async with await asyncio.start_server(accept, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await seen
            writer.close()
        return found

    with closing(_listen("127.0.0.1", 0)) as listener:
        assert asyncio.run(accepted_without_delay(listener))
