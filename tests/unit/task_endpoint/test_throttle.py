"""What the throttle keeps of clients."""

from __future__ import annotations

import tracemalloc

from agent.task_endpoint.throttle import RequestRate, Throttle


def test_long_paths_are_not_kept() -> None:
    throttle = Throttle(RequestRate())
    tracemalloc.start()
    for number in range(500):
        assert throttle.take("a", f"/v4/{number:08}" + "\U0001f600" * 2000)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 500 * 1000
