"""A cluster whose services are run by the loop of services, with agents that only report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane import records
from agent.controlplane.agents import reports
from agent.controlplane.records import TaskRecord
from agent.controlplane.services.loop import ServiceLoop
from tests.support.control_endpoint import a_report

if TYPE_CHECKING:
    from agent.controlplane.records import InstanceRecord
    from tests.unit.controlplane.api.ecs.conftest import Endpoint


class Shop:
    """A cluster with hosts, whose agents do at once what they are told."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.loop = ServiceLoop(endpoint.parts)
        self.hosts: dict[str, InstanceRecord] = {}

    async def add_host(self, **fields: Any) -> InstanceRecord:
        host = await self.endpoint.add_instance(**fields)
        self.hosts[host.id] = host
        return host

    async def create(self, name: str = "shop", **more: Any) -> dict[str, Any]:
        request = {"serviceName": name, "taskDefinition": "web", **more}
        if request.get("schedulingStrategy") != "DAEMON":
            request.setdefault("desiredCount", 2)
        answer = await self.endpoint.call("create_service", **request)
        return dict(answer["service"])

    async def describe(self, name: str = "shop", **more: Any) -> dict[str, Any]:
        (found,) = (await self.endpoint.call("describe_services", services=[name], **more))[
            "services"
        ]
        return dict(found)

    async def tasks(self, status: str = "RUNNING", service: str = "shop") -> list[dict[str, Any]]:
        arns = await self.endpoint.call("list_tasks", serviceName=service, desiredStatus=status)
        if not arns["taskArns"]:
            return []
        found = await self.endpoint.call("describe_tasks", tasks=arns["taskArns"], include=["TAGS"])
        return list(found["tasks"])

    async def report(self, arn: str, status: str, **more: Any) -> None:
        key = records.task_key("default", records.last_element(arn))
        kv = await self.endpoint.parts.store.get(key)
        assert kv is not None
        host = self.hosts[records.decode(TaskRecord, kv).instance_id]
        answer = await reports.apply(self.endpoint.parts, host, [a_report(arn, status, **more)])
        assert answer.results[0].status == "ok", answer

    async def settle(self, seconds: float = 0) -> None:
        """Let the loop work and agents obey until nothing changes; then again after some time."""
        for wait in (0, seconds):
            self.endpoint.now[0] += wait
            for _ in range(10):
                await self.loop.settle()
                pending = [t for t in await self.tasks() if t["lastStatus"] == "PENDING"]
                stopping = [t for t in await self.tasks("STOPPED") if t["lastStatus"] != "STOPPED"]
                for task in pending:
                    await self.report(task["taskArn"], "RUNNING")
                for task in stopping:
                    await self.report(task["taskArn"], "STOPPED")
                if not pending and not stopping:
                    break

    async def messages(self) -> list[str]:
        return [event["message"] for event in (await self.describe())["events"]]
