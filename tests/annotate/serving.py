"""A server as a user starts it: a process of its own, which may be killed and started again on the same port."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``safetyvalve annotate serve`` with the given arguments."""

    def __init__(self, *arguments: object, invites: int = 0, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = [*map(str, arguments), "--port", str(self.port)]
        self.links: dict[str, list[str]] = {"admin": [], "annotator": []}
        self.start(invites)

    def start(self, invites: int = 0) -> None:
        code = "import sys; from safetyvalve.cli import main; sys.exit(main())"
        command = [sys.executable, "-u", "-c", code, "annotate", "serve", *self.arguments, "--invite", str(invites)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout
        wanted = 1 + invites
        for line in self.process.stdout:
            if found := re.match(r"(\w+) link, works once: (\S+)", line):
                self.links[found[1]].append(found[2])
                wanted -= 1
            if not wanted:
                break
        if wanted:
            self.stop()
            raise AssertionError("the server did not start")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30):
            pass

    def kill(self) -> None:
        """As a crash would: nothing is finished."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()
