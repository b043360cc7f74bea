"""Registrations that Amazon ECS refuses: the exit code tells a supervisor whether to try again."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.backend import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

TERMINAL = 5
LIMIT_S = 60.0


def _exit_code(host: Host) -> int:
    host.agent.start()
    assert host.agent.popen is not None
    try:
        return host.agent.popen.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still runs:\n{host.agent.tail()}") from None


@pytest.mark.parametrize(
    "fault",
    [
        faults.INVALID,
        faults.Refuse("ClientException", "Container instance type changes are not supported."),
    ],
    ids=lambda f: f.code,
)
def test_what_a_restart_cannot_mend_is_terminal(
    fresh: Callable[..., Host], fault: faults.Refuse
) -> None:
    host = fresh()
    host.backend.fault("RegisterContainerInstance", fault, times=-1)
    assert _exit_code(host) == TERMINAL
    assert fault.code in host.log()
    assert len(host.backend.journal.calls("RegisterContainerInstance")) <= 2


def test_an_attribute_that_did_not_arrive_is_terminal(fresh: Callable[..., Host]) -> None:
    host = fresh(ECS_INSTANCE_ATTRIBUTES='{"rack":"12"}')
    host.backend.api.echo_attributes = False
    assert _exit_code(host) == TERMINAL
    assert "rack" in host.log()


def test_another_cluster_than_before_is_terminal(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    host.backend.api.clusters.add("other")
    assert host.agent.stop() == 0
    host.agent.environment["ECS_CLUSTER"] = "other"
    assert _exit_code(host) == TERMINAL
    assert "other" in host.log()
    assert len(host.backend.journal.calls("RegisterContainerInstance")) == 1


def test_tags_are_registered(fresh: Callable[..., Host]) -> None:
    host = fresh(ECS_CONTAINER_INSTANCE_TAGS='{"team":"red","päd":"✓"}').start()
    [instance] = host.backend.api.instances.values()
    assert sorted((t["key"], t["value"]) for t in instance.tags) == [("päd", "✓"), ("team", "red")]
