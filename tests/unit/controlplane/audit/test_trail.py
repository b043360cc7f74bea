"""No call waits for the trail or fails because of it, and what is lost is told."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.controlplane.audit import trail as trails
from agent.controlplane.audit.files import AuditSettings, TrailFile
from agent.controlplane.audit.reading import Wanted
from agent.controlplane.audit.record import AuditedCall
from agent.controlplane.audit.trail import Trail
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.005)


def call(operation: str = "CreateCluster", **more: Any) -> AuditedCall:
    values: dict[str, Any] = {
        "at": 1_767_323_045.0,
        "source": "ecs.amazonaws.com",
        "operation": operation,
        "identity": {"type": "Root"},
        "region": "r",
        "account": "1",
        "peer": "10.0.0.1",
        "user_agent": "x",
        "request_id": "id",
    }
    return AuditedCall(**(values | more))


async def names(trail: Trail) -> list[str]:
    page = await trail.page(Wanted(), None, most=50)
    return [found.record["eventName"] for found in page.records]


async def test_a_disk_that_fails_costs_records_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = await Trail.open(AuditSettings(tmp_path / "a" / "a.jsonl"))
    fails = threading.Event()
    append = TrailFile.append

    def failing(file: TrailFile, lines: list[bytes]) -> None:
        if fails.is_set():
            raise OSError(28, "No space left on device")
        append(file, lines)

    monkeypatch.setattr(TrailFile, "append", failing)
    with capture_logs() as logged:
        fails.set()
        for _ in range(3):
            trail.note(call())
            await eventually(lambda: not trail._lane.waiting and trail.problem())
        await eventually(lambda: trail.lost == 3)
        assert "No space left" in trail.problem()
        fails.clear()
        trail.note(call("DeleteCluster"))
        await eventually(lambda: trail.written == 1)
        await eventually(lambda: not trail.problem())
    assert [line["event"] for line in logged] == [
        "audit records are lost",
        "audit records are written again",
    ]
    assert await names(trail) == ["DeleteCluster"]
    await trail.close()
    trail.note(call())
    assert trail.lost == 4


async def test_a_disk_that_hangs_delays_nothing_and_memory_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    monkeypatch.setattr(TrailFile, "append", lambda *_: disk.wait(30))
    monkeypatch.setattr(trails, "WAITING_MOST_BYTES", 100_000)
    trail = await Trail.open(AuditSettings(tmp_path / "a.jsonl"))
    try:
        trail.note(call())
        await eventually(lambda: not trail._lane.waiting)
        for _ in range(100):
            trail.note(call(), 9_000)
        assert trail._lane.waiting < 12
        assert trail.lost > 80
        assert "too slow" in trail.problem()
    finally:
        disk.set()
        await trail.close()


async def test_a_call_without_a_record_does_not_end_the_trail(tmp_path: Path) -> None:
    trail = await Trail.open(AuditSettings(tmp_path / "a.jsonl"))
    broken: Any = object()
    trail.note(call("CreateService", identity=broken))
    trail.note(call("DeleteCluster"))
    await trail.close()
    assert (trail.lost, trail.written) == (1, 1)
    assert await names(trail) == ["DeleteCluster"]


async def test_a_file_that_can_never_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.jsonl").mkdir()
    for path in (tmp_path / "a.jsonl", tmp_path / "file" / "a.jsonl"):
        with pytest.raises(ConfigError, match="choose another file"):
            await Trail.open(AuditSettings(path))
