"""ExecuteCommand and what belongs to it in tasks, services and clusters, through boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.authorization.caller import ROOT, Caller
from agent.controlplane.authorization.open_calls import AllowedCall
from agent.controlplane.execute_command import sessions
from agent.controlplane.log_store.contract import Bounds
from agent.controlplane.log_store.store import LogStore
from agent.controlplane.records import AttributeRecord, TaskRecord
from agent.controlplane.store.contract import Put
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

ABLE = {
    "ecs.os-type": AttributeRecord(value="linux"),
    "ecs-host-agent.execute-command": AttributeRecord(),
}
NOT_ENABLED = (
    "The execute command failed because execute command was not enabled when the task was run or the "
    "execute command agent isn\N{RIGHT SINGLE QUOTATION MARK}t running. Wait and try again or run a new task with execute command "
    "enabled and try again."
)
COMMAND = {"command": "/bin/sh", "interactive": True}


async def put(endpoint: Endpoint, task: TaskRecord) -> None:
    await endpoint.parts.store.txn(
        [], [Put(records.task_key(task.cluster, task.id), records.encode(task))]
    )


async def running(endpoint: Endpoint, *names: str, **changes: Any) -> TaskRecord:
    """Put a task whose containers run, in which commands are enabled."""
    host = await endpoint.add_instance(attributes=changes.pop("attributes", ABLE))
    task = await endpoint.add_task(host)
    containers = [
        records.ContainerRecord(
            name=name, arn=f"{task.arn}/{name}", image="i", last_status="RUNNING", runtime_id="r"
        )
        for name in names or ("main",)
    ]
    values = {"containers": containers, "enable_execute_command": True, "started_at": 5.0} | changes
    task = replace(task, **values)
    await put(endpoint, task)
    return task


async def test_the_answer_has_what_the_command_line_needs(endpoint: Endpoint, cluster: str) -> None:
    task = await running(endpoint)
    answer = await endpoint.call("execute_command", cluster=cluster, task=task.id, **COMMAND)
    session = answer["session"]
    assert answer["clusterArn"] == endpoint.parts.names.cluster("default")
    assert (answer["taskArn"], answer["containerName"]) == (task.arn, "main")
    assert answer["containerArn"] == task.containers[0].arn
    assert answer["interactive"] is True
    assert session["sessionId"].startswith("ecs-execute-command-")
    place = endpoint.url.replace("http://", "ws://")
    assert session["streamUrl"] == f"{place}execute-command/{session['sessionId']}"
    assert len(session["tokenValue"]) >= 64


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"interactive": False}, "Interactive is the only mode supported currently."),
        ({"command": "  "}, "command can not be empty."),
        ({"command": "sh -c 'x"}, "command cannot be split into words: No closing quotation."),
        ({"command": "x" * 9000}, "command is longer than 8192 characters."),
        ({"container": "other"}, "The container 'other' does not exist in the task."),
        ({"task": "0" * 32}, "The referenced task was not found."),
    ],
)
async def test_what_cannot_be_done_is_refused(
    endpoint: Endpoint, cluster: str, asked: dict[str, Any], told: str
) -> None:
    task = await running(endpoint)
    request = {"cluster": cluster, "task": task.arn, **COMMAND, **asked}
    refused = await endpoint.refused("execute_command", **request)
    assert refused == ("InvalidParameterException", told)


async def test_one_of_several_containers_is_named(endpoint: Endpoint, cluster: str) -> None:
    task = await running(endpoint, "a", "b")
    code, text = await endpoint.refused("execute_command", task=task.id, cluster=cluster, **COMMAND)
    assert code == "InvalidParameterException"
    assert text.startswith("Container name is required for tasks with multiple containers")
    answer = await endpoint.call("execute_command", task=task.id, container="b", **COMMAND)
    assert answer["containerName"] == "b"


@pytest.mark.parametrize("why", ["not enabled", "task pending", "container stopped"])
async def test_a_task_that_cannot_run_commands(endpoint: Endpoint, cluster: str, why: str) -> None:
    task = await running(endpoint)
    if why == "not enabled":
        task = replace(task, enable_execute_command=False)
    elif why == "task pending":
        task = replace(task, last_status="PENDING")
    else:
        stopped = replace(task.containers[0], last_status="STOPPED")
        task = replace(task, containers=[stopped])
    await put(endpoint, task)
    refused = await endpoint.refused("execute_command", cluster=cluster, task=task.id, **COMMAND)
    assert refused == ("InvalidParameterException", NOT_ENABLED)


@pytest.mark.parametrize("why", ["another wire", "not connected"])
async def test_a_host_that_cannot_be_told(endpoint: Endpoint, cluster: str, why: str) -> None:
    attributes = {"ecs.os-type": AttributeRecord(value="linux")}
    task = await running(endpoint, attributes=attributes if why == "another wire" else ABLE)
    if why == "not connected":
        lease = await endpoint.parts.store.get(records.alive_key(task.instance_id))
        assert lease is not None
        await endpoint.parts.store.revoke_lease(lease.lease)
        (shown,) = (await endpoint.call("describe_tasks", tasks=[task.arn]))["tasks"]
        (agent,) = shown["containers"][0]["managedAgents"]
        assert (agent["lastStatus"], agent["reason"]) == (
            "STOPPED",
            "The agent of the task's host is not connected",
        )
    refused = await endpoint.refused("execute_command", cluster=cluster, task=task.id, **COMMAND)
    assert refused == (
        "TargetNotConnectedException",
        "The execute command failed due to an internal error. Try again later.",
    )


async def test_no_more_sessions_than_may_be(
    endpoint: Endpoint, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await running(endpoint)
    monkeypatch.setattr(sessions, "SESSIONS_MOST", 1)
    await endpoint.call("execute_command", cluster=cluster, task=task.id, **COMMAND)
    code, _ = await endpoint.refused("execute_command", cluster=cluster, task=task.id, **COMMAND)
    assert code == "ServerException"


async def test_tokens_are_only_good_for_minutes() -> None:
    now = [0.0]
    table = sessions.CommandSessions(clock=lambda: now[0])
    target = sessions.CommandTarget(task_arn="t", instance_id="i", container="c", words=["sh"])
    begun = table.begin(target, AllowedCall(Caller(ROOT, "me")))
    now[0] = sessions.TOKEN_S
    with pytest.raises(sessions.TokenRefused, match="too old"):
        table.open(begun.id, begun.token)
    with pytest.raises(sessions.TokenRefused):
        table.open(begun.id, begun.token)


async def test_the_managed_agent_is_shown_with_the_container(
    endpoint: Endpoint, cluster: str
) -> None:
    task = await running(endpoint)
    for status, shown_status in (
        ("RUNNING", "RUNNING"),
        ("PENDING", "PENDING"),
        ("STOPPED", "STOPPED"),
    ):
        containers = [replace(task.containers[0], last_status=status)]
        await put(endpoint, replace(task, containers=containers))
        (shown,) = (await endpoint.call("describe_tasks", cluster=cluster, tasks=[task.arn]))[
            "tasks"
        ]
        (agent,) = shown["containers"][0]["managedAgents"]
        assert (agent["name"], agent["lastStatus"]) == ("ExecuteCommandAgent", shown_status)
        assert ("lastStartedAt" in agent) == (status == "RUNNING")
    await put(endpoint, replace(task, enable_execute_command=False))
    (shown,) = (await endpoint.call("describe_tasks", tasks=[task.arn]))["tasks"]
    assert "managedAgents" not in shown["containers"][0]


async def test_tasks_are_placed_where_commands_can_be_run(endpoint: Endpoint, cluster: str) -> None:
    await endpoint.call("register_task_definition", **definition())
    await endpoint.add_instance()
    request = {"cluster": cluster, "taskDefinition": "web", "enableExecuteCommand": True}
    (failure,) = (await endpoint.call("run_task", **request))["failures"]
    assert failure["reason"] == "ATTRIBUTE"
    assert "ecs-host-agent.execute-command" in failure["detail"]
    able = await endpoint.add_instance(attributes=ABLE)
    (task,) = (await endpoint.call("run_task", **request))["tasks"]
    assert task["enableExecuteCommand"] is True
    assert task["containerInstanceArn"] == able.arn
    (other,) = (await endpoint.call("run_task", cluster=cluster, taskDefinition="web"))["tasks"]
    assert other["enableExecuteCommand"] is False


async def test_a_service_keeps_it_for_its_tasks(endpoint: Endpoint, cluster: str) -> None:
    await endpoint.call("register_task_definition", **definition())
    names = {"cluster": cluster, "serviceName": "s"}
    made = await endpoint.call(
        "create_service", **names, taskDefinition="web", desiredCount=0, enableExecuteCommand=True
    )
    assert made["service"]["enableExecuteCommand"] is True
    names = {"cluster": cluster, "service": "s"}
    kept = await endpoint.call("update_service", **names, desiredCount=0)
    assert kept["service"]["enableExecuteCommand"] is True
    off = await endpoint.call("update_service", **names, enableExecuteCommand=False)
    assert off["service"]["enableExecuteCommand"] is False
    assert len(off["service"]["deployments"]) == 1


def logging(kind: str = "OVERRIDE", **where: Any) -> dict[str, Any]:
    told = {"executeCommandConfiguration": {"logging": kind}}
    if where:
        told["executeCommandConfiguration"]["logConfiguration"] = where  # type: ignore[assignment]
    return told


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ({"executeCommandConfiguration": {"kmsKeyId": "k"}}, "kmsKeyId' is not supported"),
        (logging(s3BucketName="b"), "s3BucketName' is not supported"),
        (
            logging(cloudWatchLogGroupName="g", cloudWatchEncryptionEnabled=True),
            "cloudWatchEncryptionEnabled' is not supported",
        ),
        (logging(), "logConfiguration must be specified when logging is OVERRIDE"),
    ],
)
async def test_logging_that_is_not_done_is_refused(
    endpoint: Endpoint, cluster: str, configuration: dict[str, Any], told: str
) -> None:
    for operation, name in (("create_cluster", "clusterName"), ("update_cluster", "cluster")):
        _, text = await endpoint.refused(
            operation, **{name: cluster if name == "cluster" else "c2"}, configuration=configuration
        )
        assert told in text


async def test_commands_wait_for_the_log_group_that_is_to_have_them(
    endpoint: Endpoint, cluster: str, tmp_path: Any
) -> None:
    task = await running(endpoint)
    asked = {"cluster": cluster, "task": task.id, **COMMAND}
    group = logging(cloudWatchLogGroupName="/exec")
    await endpoint.call("update_cluster", cluster=cluster, configuration=group)
    _, text = await endpoint.refused("execute_command", **asked)
    assert "cannot be logged to the log group '/exec'" in text
    store = await LogStore.open(tmp_path / "logs", Bounds())
    object.__setattr__(endpoint.parts, "log_store", store)
    try:
        _, text = await endpoint.refused("execute_command", **asked)
        assert text.endswith("it does not exist.")
        await store.create_group("/exec")
        await endpoint.call("execute_command", **asked)
        (begun,) = endpoint.parts.commands._begun.values()
        assert begun.target.log_group == "/exec"
        await endpoint.call("update_cluster", cluster=cluster, configuration=logging("NONE"))
        await endpoint.call("execute_command", **asked)
        assert [one.target.log_group for one in endpoint.parts.commands._begun.values()] == [
            "/exec",
            "",
        ]
    finally:
        await store.close()
