"""Writers come through in turn."""

from __future__ import annotations

import threading
import time

from safetyvalve.annotate.database import Turnstile


def test_first_come_first_served() -> None:
    gate, order = Turnstile(), []
    assert gate.enter(1)

    def wait(name: int) -> None:
        assert gate.enter(10)
        order.append(name)
        gate.leave()

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=wait, args=(name,)))
        threads[-1].start()
        while len(gate._waiting) <= name:
            time.sleep(0.001)
    gate.leave()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_giving_up_leaves_the_others_in_line() -> None:
    gate = Turnstile()
    assert gate.enter(1)
    assert not gate.enter(0.01)
    gate.leave()
    assert gate.enter(0.01)
