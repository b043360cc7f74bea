"""The agents' wire through a real server: registration, orders, reports."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from yarl import URL

from agent.model import payload as payload_model
from agent.model.changes import AttachmentChange, ContainerChange, TaskChange
from agent.model.wire import GENERATION_HEADER, ErrorBody, InstanceStatus, Register
from tests.support.control_endpoint import ScriptedAgent, a_report, definition

if TYPE_CHECKING:
    from tests.support.control_endpoint import Endpoint


async def run_tasks(endpoint: Endpoint, count: int = 1, **more: Any) -> list[str]:
    answer = await endpoint.call("RunTask", taskDefinition="web", count=count, **more)
    assert answer["failures"] == []
    return [task["taskArn"] for task in answer["tasks"]]


def code_of(body: bytes) -> str:
    return msgspec.json.decode(body, type=ErrorBody).code


async def test_registration_is_idempotent_and_makes_generations(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    first = await agent.register()
    assert first.generation == 1
    assert first.cluster_arn.endswith(":cluster/default")
    again = await agent.register()
    assert (again.instance_arn, again.generation) == (first.instance_arn, 2)
    by_arn = await agent.register(instance_arn=first.instance_arn, client_token="another")
    assert (by_arn.instance_arn, by_arn.generation) == (first.instance_arn, 3)
    assert by_arn.control_id == first.control_id
    other = await ScriptedAgent(endpoint).register()
    assert other.instance_arn != first.instance_arn


async def test_registrations_at_once_are_one_instance(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    answers = await asyncio.gather(*(agent.register() for _ in range(5)))
    assert len({answer.instance_arn for answer in answers}) == 1
    assert sorted(answer.generation for answer in answers) == [1, 2, 3, 4, 5]


async def test_unknown_cluster_and_change_of_cluster(endpoint: Endpoint) -> None:
    status, body = await ScriptedAgent(endpoint).send(
        "POST", "/v1/instances", Register(**(ScriptedAgent(endpoint).info | {"cluster": "nope"}))
    )
    assert (status, code_of(body)) == (400, "InvalidRequest")
    assert b"CreateCluster" in body
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("CreateCluster", clusterName="two")
    status, body = await agent.send(
        "POST", "/v1/instances", Register(**(agent.info | {"cluster": "two"}))
    )
    assert (status, code_of(body)) == (400, "InvalidRequest")


async def test_old_generation_is_refused_everywhere(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await agent.poll(after=0)
    held = asyncio.create_task(
        agent.send(
            "GET",
            f"/v1/instances/{agent.id}/assignments?after={agent.revision}&wait=5",
            generation=1,
        )
    )
    await asyncio.sleep(0.1)
    await agent.register()
    began = time.monotonic()
    status, body = await held
    assert (status, code_of(body)) == (409, "StaleGeneration")
    assert time.monotonic() - began < 1.0
    for method, path in [
        ("GET", "/assignments?after=0"),
        ("POST", "/changes"),
        ("POST", "/usage"),
        ("DELETE", ""),
    ]:
        status, body = await agent.send(
            method, f"/v1/instances/{agent.id}{path}", b"{}", generation=1
        )
        assert (status, code_of(body)) == (409, "StaleGeneration")


async def test_unknown_instance_and_missing_generation(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    status, body = await agent.send("GET", "/v1/instances/feed/assignments?after=0")
    assert (status, code_of(body)) == (404, "InstanceUnknown")
    await agent.register()
    status, body = await agent.send(
        "GET", f"/v1/instances/{agent.id}/assignments?after=0", headers={"X-Ecs-Generation": "x"}
    )
    assert (status, code_of(body)) == (400, "InvalidRequest")


async def test_assignments_full_then_changes(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    full = await agent.poll()
    assert full is not None
    assert (full.full, full.tasks, full.instance_status) == (True, [], "ACTIVE")
    poll = asyncio.create_task(agent.poll())
    await asyncio.sleep(0.1)
    assert not poll.done()
    (arn,) = await run_tasks(endpoint)
    answer = await poll
    assert answer is not None
    assert not answer.full
    (order,) = answer.tasks
    assert (order.task_arn, order.desired_status) == (arn, "RUNNING")
    payload = payload_model.decode(order.payload)
    assert payload.arn == arn
    assert payload.containers[0].image == "img"
    assert payload.containers[0].memory == 128
    assert await agent.poll(wait_s=0) is None
    again = await agent.poll(after=0)
    assert again is not None
    assert [task.task_arn for task in again.tasks] == [arn]


async def test_stops_come_before_starts_and_a_reported_stop_leaves_the_set(
    endpoint: Endpoint,
) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    first, second = await run_tasks(endpoint, 2)
    await agent.poll(after=0)
    (third,) = await run_tasks(endpoint)
    await endpoint.call("StopTask", task=second, reason="enough")
    answer = await agent.poll()
    assert answer is not None
    assert [(t.task_arn, t.desired_status) for t in answer.tasks] == [
        (second, "STOPPED"),
        (third, "RUNNING"),
    ]
    assert (answer.tasks[0].stop_code, answer.tasks[0].stopped_reason) == (
        "UserInitiated",
        "enough",
    )
    full = await agent.poll(after=0)
    assert full is not None
    assert {t.task_arn for t in full.tasks} == {first, second, third}
    await agent.report(a_report(second, "STOPPED"))
    full = await agent.poll(after=0)
    assert full is not None
    assert {t.task_arn for t in full.tasks} == {first, third}


async def test_revision_of_another_store_is_gone(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    status, body = await agent.send("GET", f"/v1/instances/{agent.id}/assignments?after=999999")
    assert (status, code_of(body)) == (410, "RevisionCompacted")


async def test_registering_again_orders_what_the_agent_does_not_hold(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    held, lost = await run_tasks(endpoint, 2)
    await agent.poll(after=0)
    await agent.register(known_tasks=[held, "arn:aws:ecs:us-east-1:000000000000:task/default/zz"])
    answer = await agent.poll()
    assert answer is not None
    assert [task.task_arn for task in answer.tasks] == [lost]


async def test_a_task_that_ends_by_itself_is_not_ordered_to_run_again(endpoint: Endpoint) -> None:
    """Its host has lost its state after it told the end of the essential container."""
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    ending, other = await run_tasks(endpoint, 2)
    await agent.poll(after=0)
    await agent.report(a_report(ending, "RUNNING"))
    ended = ContainerChange(container_name="main", status="STOPPED", runtime_id="r1", exit_code=3)
    await agent.report(a_report(ending, "RUNNING", containers=[ended]))
    await agent.register(known_tasks=[])
    answer = await agent.poll()
    assert answer is not None
    assert [(task.task_arn, task.desired_status) for task in answer.tasks] == [
        (ending, "STOPPED"),
        (other, "RUNNING"),
    ]
    assert answer.tasks[0].stop_code == "EssentialContainerExited"


async def test_draining_wakes_the_poll(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await agent.poll(after=0)
    poll = asyncio.create_task(agent.poll())
    await asyncio.sleep(0.05)
    await endpoint.call(
        "UpdateContainerInstancesState", containerInstances=[agent.arn], status="DRAINING"
    )
    answer = await poll
    assert answer is not None
    assert (answer.instance_status, answer.tasks) == ("DRAINING", [])


async def test_an_agent_sets_the_status_of_its_own_instance(endpoint: Endpoint) -> None:
    agent, other = ScriptedAgent(endpoint), ScriptedAgent(endpoint)
    await agent.register()
    await other.register()
    path = f"/v1/instances/{agent.arn.rpartition('/')[2]}/status"

    async def statuses() -> list[str]:
        found = await endpoint.call(
            "DescribeContainerInstances", containerInstances=[agent.arn, other.arn]
        )
        return [instance["status"] for instance in found["containerInstances"]]

    for status in ("DRAINING", "DRAINING", "ACTIVE"):
        assert (await agent.send("POST", path, InstanceStatus(status=status)))[0] == 204
        assert await statuses() == [status, "ACTIVE"]
    for wrong in (InstanceStatus(status="INACTIVE"), InstanceStatus(status="")):
        code, body = await agent.send("POST", path, wrong)
        assert (code, code_of(body)) == (400, "InvalidRequest")
    await agent.register()
    earlier = agent.generation - 1
    draining = InstanceStatus(status="DRAINING")
    code, body = await agent.send("POST", path, draining, generation=earlier)
    assert (code, code_of(body)) == (409, "StaleGeneration")
    assert await statuses() == ["ACTIVE", "ACTIVE"]


async def test_reports_are_applied_once_and_in_order(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    (arn,) = await run_tasks(endpoint)
    pending, running = a_report(arn, "PENDING"), a_report(arn, "RUNNING")
    answer = await agent.report(pending, running, pending)
    assert [result.status for result in answer.results] == ["ok", "ok", "ok"]
    task = await endpoint.task(arn)
    assert (task["lastStatus"], task["version"]) == ("RUNNING", 3)
    again = await agent.report(pending, running)
    assert [result.status for result in again.results] == ["ok", "ok"]
    assert (await endpoint.task(arn))["version"] == 3


async def test_broken_reports_harm_no_other(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    (arn,) = await run_tasks(endpoint)
    stranger = TaskChange(id="s", task_arn=arn + "0", status="RUNNING", at=1.0)
    body = msgspec.json.encode(
        {
            "changes": [
                {"id": "broken", "taskArn": 7},
                a_report(arn, "RUNNING", id="good"),
                stranger,
                a_report("what", "RUNNING", id="odd"),
                a_report(arn, "FLYING", id="bad"),
                a_report(arn, "RUNNING", id="late", at=1e300),
            ]
        }
    )
    status, raw = await agent.send("POST", f"/v1/instances/{agent.id}/changes", body)
    assert status == 200
    results = msgspec.json.decode(raw)["results"]
    assert [(r["id"], r["status"]) for r in results] == [
        ("broken", "rejected"),
        ("good", "ok"),
        ("s", "rejected"),
        ("odd", "rejected"),
        ("bad", "rejected"),
        ("late", "rejected"),
    ]
    assert (await endpoint.task(arn))["lastStatus"] == "RUNNING"


async def test_task_of_another_instance_is_refused(endpoint: Endpoint) -> None:
    agent, other = ScriptedAgent(endpoint), ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    (arn,) = await run_tasks(endpoint)
    await other.register()
    answer = await other.report(a_report(arn, "STOPPED"))
    assert answer.results[0].status == "rejected"
    assert (await endpoint.task(arn))["lastStatus"] == "PENDING"


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("", b"", {}),
        ("", b"{", {}),
        ("", b"[]", {}),
        ("", b'{"cluster": "default"}', {}),
        ("", b"[" * 100_000, {}),
        ("", b'{"cluster": "\xff"}', {}),
        ("", b"no gzip", {"Content-Encoding": "gzip"}),
        ("/{id}/changes", b"{}", {}),
        ("/{id}/changes", b'{"changes": 1}', {}),
        ("/{id}/usage", b'{"host": 1}', {}),
        ("/{id}/usage", b'{"host": {"cpuUnits": [1, 2, 3, 0]}}', {}),
        ("/{id}/usage", b'{"host": {"cpuUnits": [1, 2, -3, 1]}}', {}),
    ],
)
async def test_malformed_body(
    endpoint: Endpoint, path: str, body: bytes, headers: dict[str, str]
) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    status, raw = await agent.send(
        "POST", f"/v1/instances{path.format(id=agent.id)}", body, headers=headers
    )
    assert status == 400, raw


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=0&wait=z", f"after={'9' * 40}"])
async def test_malformed_query(endpoint: Endpoint, query: str) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    status, _ = await agent.send("GET", f"/v1/instances/{agent.id}/assignments?{query}")
    assert status == 400


async def test_too_large_a_body(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    bomb = gzip.compress(b" " * 9 * 1024 * 1024)
    status, _ = await agent.send(
        "POST", f"/v1/instances/{agent.id}/changes", bomb, headers={"Content-Encoding": "gzip"}
    )
    assert status == 413


async def test_gzip_in_both_directions(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    arns = await run_tasks(endpoint, 5)
    reports = msgspec.json.encode({"changes": [a_report(arn, "RUNNING") for arn in arns]})
    status, raw = await agent.send(
        "POST",
        f"/v1/instances/{agent.id}/changes",
        gzip.compress(reports),
        headers={"Content-Encoding": "gzip"},
    )
    assert status == 200, raw
    url = f"{endpoint.url}/v1/instances/{agent.id}/assignments?after=0"
    async with endpoint.session.get(
        url, headers={"X-Ecs-Generation": str(agent.generation), "Accept-Encoding": "gzip"}
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len((await answer.json())["tasks"]) == 5


async def connected(endpoint: Endpoint, agent: ScriptedAgent) -> bool:
    answer = await endpoint.call("DescribeContainerInstances", containerInstances=[agent.arn])
    value: bool = answer["containerInstances"][0]["agentConnected"]
    return value


async def test_lease_runs_out_and_comes_back(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    (arn,) = await run_tasks(endpoint)
    await agent.report(a_report(arn, "RUNNING"))
    assert await connected(endpoint, agent)
    await agent.poll(after=0)
    for _ in range(4):
        assert await agent.poll(wait_s=60) is None, "held for less than the lease"
        assert await connected(endpoint, agent), "each poll renews the lease"
    async with asyncio.timeout(5):
        while await connected(endpoint, agent):  # noqa: ASYNC110 - the state is another process's
            await asyncio.sleep(0.1)
    task = await endpoint.task(arn)
    assert (task["lastStatus"], task["connectivity"]) == ("RUNNING", "DISCONNECTED")
    refused = await endpoint.call("RunTask", taskDefinition="web")
    assert refused["failures"] == [{"arn": agent.arn, "reason": "AGENT"}]
    await agent.poll(wait_s=0)
    assert await connected(endpoint, agent)


async def test_a_host_that_dies_while_polling_is_disconnected_within_its_lease(
    endpoint: Endpoint,
) -> None:
    """Its connection stays as it is: a host without power closes nothing. Bells ring meanwhile."""
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await agent.poll(after=0)
    request = (
        f"GET /v1/instances/{agent.id}/assignments?after={agent.revision}&wait=60 HTTP/1.1\r\n"
        f"Host: control\r\n{GENERATION_HEADER}: {agent.generation}\r\n\r\n"
    )
    address = URL(endpoint.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    began = time.monotonic()
    writer.write(request.encode())
    await writer.drain()
    async with asyncio.timeout(10):
        while await connected(endpoint, agent):  # noqa: ASYNC110 - the state is another process's
            await asyncio.sleep(0.02)
    took_s = time.monotonic() - began
    assert 1.0 < took_s < 1.2 + 0.5, "the lease lasts 1.2 s"
    assert not reader.at_eof(), "the connection has not ended"
    writer.close()


async def test_agent_that_leaves_comes_back_as_a_new_instance(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    first = await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    (arn,) = await run_tasks(endpoint)
    status, _ = await agent.send("DELETE", f"/v1/instances/{agent.id}")
    assert status == 204
    task = await endpoint.task(arn)
    assert (task["lastStatus"], task["desiredStatus"]) == ("STOPPED", "STOPPED")
    status, body = await agent.send("GET", f"/v1/instances/{agent.id}/assignments?after=0")
    assert (status, code_of(body)) == (404, "InstanceUnknown")
    again = await agent.register(instance_arn=first.instance_arn)
    assert again.instance_arn != first.instance_arn
    repeated = await agent.register(instance_arn=first.instance_arn)
    assert repeated.instance_arn == again.instance_arn


async def test_deregistered_instance_does_not_come_back_by_itself(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await agent.poll(after=0)
    path = f"/v1/instances/{agent.id}/assignments?after={agent.revision}&wait=5"
    poll = asyncio.create_task(agent.send("GET", path))
    await asyncio.sleep(0.05)
    await endpoint.call("DeregisterContainerInstance", containerInstance=agent.arn)
    status, body = await poll
    assert (status, code_of(body)) == (404, "InstanceUnknown")
    again = Register(**(agent.info | {"instance_arn": agent.arn}))
    status, body = await agent.send("POST", "/v1/instances", again)
    assert (status, code_of(body)) == (409, "StaleGeneration")
    assert b"deregistered" in body
    fresh = await ScriptedAgent(endpoint, client_token=agent.info["client_token"]).register()
    assert fresh.instance_arn != agent.arn


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpuUnits", -5),
        ("cpuUnits", 2**64),
        ("hostname", "h" * 1_000_000),
        ("hostname", "web\n2026-01-01 [error] forged"),
    ],
)
async def test_a_host_that_cannot_be_is_refused_by_name(
    endpoint: Endpoint, field: str, value: object
) -> None:
    agent = ScriptedAgent(endpoint)
    call = msgspec.to_builtins(Register(**agent.info))
    call["resources"][field] = value
    status, body = await agent.send("POST", "/v1/instances", call)
    assert (status, code_of(body)) == (400, "InvalidRequest")
    assert f"resources.{field}".encode() in body
    assert len(body) < 400
    assert (await endpoint.call("ListContainerInstances"))["containerInstanceArns"] == []


async def test_a_report_that_cannot_be_is_refused_and_those_beside_it_count(
    endpoint: Endpoint,
) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    first, second = await run_tasks(endpoint, 2)
    huge = a_report(first, "RUNNING")
    huge = msgspec.structs.replace(
        huge,
        containers=[msgspec.structs.replace(huge.containers[0], image_digest="d" * 900_000)],
    )
    answer = await agent.report(huge, a_report(second, "RUNNING"))
    assert [result.status for result in answer.results] == ["rejected", "ok"]
    assert "imageDigest" in answer.results[0].message
    assert (await endpoint.task(first))["lastStatus"] == "PENDING"
    assert (await endpoint.task(second))["lastStatus"] == "RUNNING"


async def test_a_reason_is_kept_as_text(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    (arn,) = await run_tasks(endpoint)
    evil = "\x1b[2J\x1b]0;owned\x07\u202e\nline two " + "x" * 5000
    answer = await agent.report(a_report(arn, "STOPPED", reason=evil))
    assert [result.status for result in answer.results] == ["ok"]
    reason = (await endpoint.task(arn))["stoppedReason"]
    assert reason.startswith(r"\x1b[2J\x1b]0;owned\x07\u202e" + "\nline two xxx")
    assert len(reason) == 1024


async def test_details_of_an_attachment_stay_few(endpoint: Endpoint) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition(networkMode="awsvpc"))
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    (arn,) = await run_tasks(endpoint, networkConfiguration=network)
    for turn in range(4):
        details = {f"name-{turn}-{n}": "v" for n in range(30)}
        attachment = AttachmentChange(id="mine", status="ATTACHED", details=details)
        (result,) = (await agent.report(a_report(arn, "RUNNING", attachments=[attachment]))).results
        assert result.status == "ok"
    (attached,) = (await endpoint.task(arn))["attachments"]
    assert len(attached["details"]) <= 40
