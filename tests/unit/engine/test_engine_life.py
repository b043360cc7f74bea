"""A task from order to end, on an engine that works."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from agent.engine.steps import OTHER_PORTS_TRIES
from agent.errors import PortTaken, StartForgotten
from agent.model.payload import EngineConfig, PortMapping, RestartPolicy
from agent.model.status import Health
from agent.model.task import NetworkBinding
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from agent.model.changes import TaskChange
    from tests.support.task_host import TaskHost

HEALTHCHECK = EngineConfig(config={"Healthcheck": {"Test": ["CMD", "true"]}})


def shape(change: TaskChange) -> tuple[str, dict[str, str]]:
    return change.status, {c.container_name: c.status for c in change.containers}


async def test_a_launch_is_reported_once_per_change(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    (last,) = await host.deliver()
    assert shape(last) == ("RUNNING", {"a": "RUNNING"})
    assert last.containers[0].image_digest == "sha256:busybox"
    assert last.pull_started_at <= last.pull_stopped_at <= last.started_at
    assert last.containers[0].runtime_id == host.runtime.box("a").id
    assert last.attachments[0].status == "ATTACHED"
    assert last.containers[0].network_interfaces[0].private_ipv4_address == "10.0.0.2"
    await asyncio.sleep(0.05)
    assert await host.unsent() == []
    assert [host.runtime.count(o) for o in ("create", "start", "stop")] == [1, 1, 0]


async def test_the_digest_of_a_container_that_starts_slowly_is_reported_before(
    host: TaskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.record_saver.LAZY_SAVE_S", 0.05)
    host.runtime.fault("start", Fault(delay_s=0.5))
    await host.order(container("a"))
    await host.until(lambda: host.store.outbox.size)
    (first,) = await host.deliver()
    assert shape(first) == ("PENDING", {"a": "PENDING"})
    assert first.containers[0].image_digest == "sha256:busybox"
    await host.until_known("RUNNING")


async def test_steps_do_not_wait_for_the_disk(host: TaskHost) -> None:
    await host.order(container("a"), container("b", ("a", "START")))
    await host.until_known("RUNNING")
    host.store.slow_s = 0.3
    began = time.monotonic()
    host.runtime.exit("a", 1)
    await host.until(lambda: host.runtime.running() == set())
    assert time.monotonic() - began < 0.3


async def test_a_stop_runs_in_order_and_gives_everything_back(host: TaskHost) -> None:
    await host.order(
        container("db", stop_timeout=7, essential=False),
        container("web", ("db", "START")),
        network_mode="awsvpc",
        cpu=1.0,
    )
    await host.until_known("RUNNING")
    await host.stop()
    await host.until_known("STOPPED")
    stops = [c for o, c in host.runtime.calls if o == "stop"]
    assert stops == ["web", "db"]
    assert host.runtime.stop_timeouts == {"web": 30, "db": 7}
    last = (await host.deliver())[-1]
    assert (last.status, last.reason, last.stop_code) == ("STOPPED", "enough", "UserInitiated")
    assert [c.exit_code for c in last.containers] == [143, 143]
    assert last.stopping_at <= last.execution_stopped_at <= last.stopped_at
    assert last.attachments[0].status == "DELETED"
    assert host.networks.held == set()
    assert host.ledger.used()[0].used == 0
    assert host.runtime.running() == set()


async def test_an_essential_exit_stops_the_rest(host: TaskHost) -> None:
    await host.order(container("a"), container("b", essential=False))
    await host.until_known("RUNNING")
    host.runtime.exit("a", 3)
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert {c.container_name: c.exit_code for c in last.containers} == {"a": 3, "b": 143}
    assert last.reason == ""
    assert host.runtime.running() == set()


async def test_a_non_essential_exit_is_reported_and_changes_nothing(host: TaskHost) -> None:
    await host.order(container("a"), container("b", essential=False))
    await host.until_known("RUNNING")
    host.runtime.exit("b", 1)
    await host.until(lambda: host.container("b").exit_code == 1)
    await host.until_known("RUNNING")
    assert shape((await host.deliver())[-1]) == ("RUNNING", {"a": "RUNNING", "b": "STOPPED"})
    assert host.runtime.running() == {"a"}


async def test_out_of_memory(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    host.runtime.exit("a", 137, oom=True)
    await host.until_known("STOPPED")
    (last,) = (await host.deliver())[-1].containers
    assert last.exit_code == 137
    assert last.reason == "OutOfMemoryError: Container killed due to memory usage"


async def test_a_container_that_ends_at_once_is_seen_to_have_run(host: TaskHost) -> None:
    host.runtime.exits_at_once["a"] = 0
    await host.order(container("a"))
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.containers[0].exit_code == 0
    assert last.execution_stopped_at


async def test_a_chain_of_dependencies(host: TaskHost) -> None:
    host.runtime.exits_at_once["init"] = 0
    await host.order(
        container("init", essential=False),
        container(
            "db",
            ("init", "SUCCESS"),
            health_check_type="docker",
            docker_config=HEALTHCHECK,
        ),
        container("web", ("db", "HEALTHY")),
    )
    await host.until(lambda: host.runtime.running() == {"db"})
    await host.until(lambda: any("HEALTHY" in w.what for w in host.engine.tasks.views()[0].waits))
    assert host.runtime.count("pull") == 2
    host.runtime.judge("db", Health.HEALTHY)
    await host.until_known("RUNNING")
    starts = [c for o, c in host.runtime.calls if o == "start"]
    assert starts == ["init", "db", "web"]
    assert host.container("db").health is Health.HEALTHY


async def test_a_verdict_during_a_slow_start_is_not_lost(host: TaskHost) -> None:
    """The first health check may pass before the engine has answered the start."""
    host.runtime.fault("start", Fault(delay_s=0.2, container="db"))
    await host.order(
        container("db", health_check_type="docker", docker_config=HEALTHCHECK),
        container("web", ("db", "HEALTHY")),
    )
    await host.until(lambda: host.runtime.running() == {"db"})
    host.runtime.judge("db", Health.HEALTHY)
    await host.until_known("RUNNING")


async def test_a_verdict_that_was_missed_is_found_by_the_comparison(host: TaskHost) -> None:
    await host.order(
        container("db", health_check_type="docker", docker_config=HEALTHCHECK),
        container("web", ("db", "HEALTHY")),
    )
    await host.until(lambda: host.runtime.running() == {"db"})
    host.runtime.box("db").health = Health.HEALTHY
    host.runtime.relist()
    await host.until_known("RUNNING")


async def test_the_restart_policy_starts_the_same_container_again(host: TaskHost) -> None:
    policy = RestartPolicy(enabled=True, ignored_exit_codes=[3])
    await host.order(container("a", restart_policy=policy))
    await host.until_known("RUNNING")
    first = host.runtime.box("a").id
    host.runtime.exit("a", 1)
    await host.until(lambda: host.runtime.count("start") == 2 and host.runtime.running())
    await host.until(lambda: not host.engine._runners[ARN].live.restarting)
    assert host.runtime.box("a").id == first
    host.runtime.exit("a", 3)
    await host.until_known("STOPPED")
    changes = await host.deliver()
    assert {c.status for c in changes[:-1]} <= {"PENDING", "RUNNING"}
    assert (changes[-1].containers[0].restart_count, changes[-1].containers[0].exit_code) == (1, 3)


async def test_dynamic_ports_are_shown_and_given_back(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80), PortMapping(container_port_range="90-91")]
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    await host.until_known("RUNNING")
    shown = (await host.deliver())[-1].containers[0].network_bindings
    assert shown == [
        NetworkBinding(container_port=80, host_port=40_000),
        NetworkBinding(container_port_range="90-91", host_port_range="40001-40002"),
    ]
    await host.until(lambda: [t.network_pid for t in host.engine.tasks.targets()] != [0])
    assert host.ports.held == {40_000, 40_001, 40_002}
    await host.stop()
    await host.until_known("STOPPED")
    assert host.ports.held == set()


async def test_a_container_whose_picked_port_is_taken_gets_another(host: TaskHost) -> None:
    """An engine that was killed may hold a port of which it no longer knows whose it was."""
    published = container("a", port_mappings=[PortMapping(container_port=80)])
    host.runtime.fault("start", Fault(PortTaken("port is already allocated"), times=2))
    await host.order(published, network_mode="bridge")
    await host.until_known("RUNNING")
    assert host.runtime.count("create", "a") == 3
    picked = host.runtime.box("a").host_config["PortBindings"]["80/tcp"]
    assert [int(each["HostPort"]) for each in picked] == host.record().host_ports["a/80/tcp"]


@pytest.mark.parametrize("port", [0, 8080])
async def test_a_container_whose_ports_are_always_taken_fails(host: TaskHost, port: int) -> None:
    """At once if it needs a certain one."""
    published = container("a", port_mappings=[PortMapping(container_port=80, host_port=port)])
    host.runtime.fault("start", Fault(PortTaken("port is already allocated"), times=100))
    await host.order(published, network_mode="bridge")
    await host.until_known("STOPPED")
    assert host.runtime.count("create", "a") == (1 if port else 1 + OTHER_PORTS_TRIES)
    assert "already allocated" in host.container("a").reason


async def test_a_start_that_the_engine_has_forgotten_fails_where_nothing_is_found_of_it(
    host: TaskHost,
) -> None:
    """Without control groups: what is left of it might run beside the next one."""
    host.runtime.fault("start", Fault(StartForgotten("already exists")))
    await host.order(container("a"))
    await host.until_known("STOPPED")
    assert "already exists" in host.container("a").reason


async def test_a_port_published_twice_gets_two_host_ports(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80), PortMapping(container_port=80)]
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    await host.until_known("RUNNING")
    shown = (await host.deliver())[-1].containers[0].network_bindings
    assert [b.host_port for b in shown] == [40_000, 40_001]
    assert host.ports.held == {40_000, 40_001}


async def test_views_and_targets(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    (view,) = host.engine.tasks.views()
    assert host.engine.tasks.statuses() == {view.status: 1}
    assert (view.arn, view.status, view.ipv4) == (ARN, "RUNNING", "10.0.0.2")
    (target,) = host.engine.tasks.targets()
    assert (target.name, target.network_pid) == ("a", 4242)
    assert host.engine.tasks.known_tasks() == [ARN]
    await host.stop()
    await host.until_known("STOPPED")
    assert list(host.engine.tasks.targets()) == []


async def test_a_stop_that_control_did_not_order_is_reported_before_anything_has_ended(
    host: TaskHost,
) -> None:
    """A container may take its stop time; control must not show the task as wanted meanwhile."""
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.deliver()
    host.runtime.fault("stop", Fault(delay_s=60.0))
    await host.engine.stop_task(ARN, "by hand")
    (change,) = await host.deliver()
    assert (change.status, change.containers[0].status) == ("RUNNING", "RUNNING")
    assert (change.reason, change.stop_code) == ("by hand", "UserInitiated")
    assert change.stopping_at > 0
    await host.stop()
    assert await host.unsent() == []


async def test_an_operator_stops_a_task(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.engine.stop_task(ARN, "maintenance")
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason == "maintenance"
    with pytest.raises(KeyError):
        await host.engine.stop_task("ghost", "x")
