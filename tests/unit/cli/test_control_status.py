"""``ecs-agent control status`` against a control endpoint of its own, through its socket."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.cli import app, control_status
from agent.controlplane.monitoring import status
from agent.model.control_status import (
    ControlStatus,
    HostsStatus,
    LeaderStatus,
    SlowAgent,
    StoreStatus,
    WakeUpStatus,
)
from tests.support.control_endpoint import ScriptedAgent, control_endpoint

if TYPE_CHECKING:
    from pathlib import Path


async def test_it_shows_a_control_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "d"
    async with control_endpoint(place, socket=place / "control.sock"):
        words = ["control", "status", "--data-dir", str(place)]
        assert await asyncio.to_thread(app.main, words) == 0
        told = capsys.readouterr().out
        assert str(place / "control.db") in told.replace("\n", "").replace(" ", "")
        assert await asyncio.to_thread(app.main, [*words, "--json"]) == 0
        # Logs of the endpoint in this process are among the lines.
        lines = capsys.readouterr().out.splitlines()
        found = msgspec.json.decode(
            "\n".join(lines[lines.index("{") :]).encode(), type=ControlStatus
        )
    assert "Hosts" in told
    assert str(place / "control.db") in told
    assert found.store.problem == ""
    assert found.store.size_bytes > 0
    assert found.store.commit_s is not None
    assert found.store.watch_s is not None
    assert found.leader.pid == os.getpid()


async def test_a_slow_agent_is_named(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, socket=tmp_path / "sock") as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await agent.poll()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(status, "SLOW_S", 0.0)
            async with endpoint.session.post(f"{endpoint.url}/control/status") as answer:
                raw = await answer.read()
        found = msgspec.json.decode(raw, type=ControlStatus)
    assert [one.instance_arn for one in found.slow] == [agent.arn]
    assert (found.slow_count, found.hosts.total, found.hosts.connected) == (1, 1, 1)


def a_status(problem: str = "") -> ControlStatus:
    return ControlStatus(
        version="1.2.3",
        leader=LeaderStatus(host="control-1.rack-7.example", pid=4_194_304, since=100.0),
        store=StoreStatus(
            where="etcd://etcd-1.example:2379,etcd-2.example:2379/fleet",
            size_bytes=3 << 30,
            revision=123_456_789,
            problem=problem,
            commit_s=0.0012,
            watch_s=None,
        ),
        hosts=HostsStatus(total=10_000, connected=9_998, draining=12, polls=9_900),
        wake_ups=WakeUpStatus(count=1_234_567, p50_s=0.0025, p99_s=0.05),
        tasks_running=123_456,
        slow=[SlowAgent(instance_arn="arn:a/b/" + "c" * 32, hostname="h" * 60, silent_s=77.0)],
        slow_count=30,
        troubles=["logs: the disk is full"],
    )


def test_lines_fit() -> None:
    facts = dict(control_status.facts(a_status("etcd is full"), now=4000.0))
    assert facts["Hosts"] == "10000, 9998 connected, 12 draining"
    assert facts["Wake-ups"] == "1234567: half within 2.5 ms, 99 % within 50 ms"
    assert facts["Commit"] == "1.2 ms"
    assert facts["Watch"] == "told nothing in time"
    assert facts["Problem"] == "etcd is full"
    assert max(map(len, facts.values())) < 66
