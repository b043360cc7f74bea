"""A slow disk delays nobody who asks, and loses no more than it must."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from agent.task_endpoint import audit_file
from agent.task_endpoint.audit_file import AuditFile

if TYPE_CHECKING:
    import pytest


def test_lines_are_written_in_order_before_it_is_closed() -> None:
    written: list[str] = []
    file = AuditFile(written.append)
    for number in range(500):
        file.write(str(number))
    file.close()
    assert written == [str(number) for number in range(500)]
    file.close()


def test_a_disk_that_hangs_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_file, "WAITING_MOST", 3)
    disk, written = threading.Event(), []

    def write(line: str) -> None:
        disk.wait(20)
        written.append(line)

    file = AuditFile(write)
    file.write("0")
    deadline = time.monotonic() + 20
    while file.waiting:  # the thread has taken the first, and hangs with it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in range(1, 100):
        file.write(str(number))
    began = time.monotonic()
    file.close(limit_s=0.1)
    assert time.monotonic() - began < 10
    assert written == []
    disk.set()
    file.close()
    assert written == ["0", "1", "2", "3"]
