"""``ecs-agent drain`` over both wires: no new tasks, a wish that outlives everything, tasks at their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import register, run
from tests.support.fleet import LONG_POLL, eventually
from tests.support.images import LINGER

if TYPE_CHECKING:
    from tests.support.fleet import Agent, Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}


def status_at_control(made: Fleet) -> str:
    client = made.client()
    arns = client.list_container_instances()["containerInstanceArns"]
    (found,) = client.describe_container_instances(containerInstances=arns)["containerInstances"]
    return str(found["status"])


def drain_of(agent: Agent) -> dict[str, Any]:
    return dict(agent.json("status")["drain"])


def test_a_host_drains_and_takes_tasks_again(one_host: Fleet, busybox_image: str) -> None:
    client, (agent,) = one_host.client(), one_host.agents
    definition = register(client, busybox_image, LINGER[2], family="stays")
    arns = run(client, definition)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    assert "draining" in agent.cli("drain")
    eventually(lambda: status_at_control(one_host) == "DRAINING", what="control knows")
    eventually(lambda: drain_of(agent)["told"], what="the agent knows that control knows")
    with pytest.raises(client.exceptions.InvalidParameterException, match="No Container Instances"):
        client.run_task(taskDefinition=definition, count=1)
    assert "1 task left" in agent.cli("status")
    agent.stop()
    agent.start()
    eventually(agent.socket.exists, what="the agent answers again")
    one_host.wait_connected()
    eventually(lambda: drain_of(agent)["wanted"], what="the wish is known again")
    assert status_at_control(one_host) == "DRAINING"
    assert agent.json("task", "stays")["status"] == "RUNNING"
    agent.cli("drain", "--stop-tasks", "--wait")
    client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=FAST)
    (task,) = client.describe_tasks(tasks=arns)["tasks"]
    assert task["stoppedReason"] == "Host is draining"
    assert agent.cli("undrain") == "taking tasks again\n"
    if one_host.wire == LONG_POLL:
        eventually(lambda: status_at_control(one_host) == "ACTIVE", what="it takes tasks again")
        again = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=again, WaiterConfig=FAST)
    else:
        # There, an agent could name any instance: only an operator may do this.
        eventually(lambda: drain_of(agent)["trouble"], what="the refusal is shown")
        assert "ended; control could not be told yet" in agent.cli("status")


def test_a_wish_waits_for_control(one_host: Fleet) -> None:
    (agent,) = one_host.agents
    one_host.control.stop()
    agent.cli("drain", "--deadline", "1h")
    eventually(lambda: drain_of(agent)["trouble"], what="control is away")
    one_host.control.start()
    one_host.control.ready()
    eventually(lambda: status_at_control(one_host) == "DRAINING", what="control knows")
