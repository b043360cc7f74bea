"""Hosts and tasks for the console: agents that a test plays, against a real control with keys and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from agent.controlplane.metric_store import catalogue, scopes
from agent.controlplane.metric_store.file import Bounds, MetricsFile
from agent.controlplane.metric_store.store import FILE as METRICS
from agent.model import statistics
from agent.model.changes import ContainerChange
from agent.model.resources import Gpu, HostResources
from agent.model.usage import HostUsage, TaskUsage, Usage
from tests.support.control_endpoint import (
    CAPABILITIES,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "token-of-the-tests-0123456789"  # noqa: S105 - of tests
KEY_ID, SECRET = "ECSKTESTTESTTESTTEST", "secret-of-the-tests-0123456789"
SERVICES = {
    "web": 48,
    "checkout": 32,
    "catalogue": 32,
    "search": 24,
    "images": 20,
    "mail": 12,
    "reports": 8,
    "stock": 22,
}
"""With how many tasks; 198 together."""
HOSTS = 20
_MIB = 1 << 20
_AWSLOGS = "com.amazonaws.ecs.capability.logging-driver.awslogs"


class Shop:
    """A cluster with hosts, services and tasks, and what happens in it."""

    def __init__(self, endpoint: Endpoint, url: str, data_dir: Path) -> None:
        self.endpoint = endpoint
        """For the owner, who needs no key."""
        self.url = url
        """For a browser, which needs one."""
        self.data_dir = data_dir
        self.agents: list[ScriptedAgent] = []
        self.at_work: list[asyncio.Task[None]] = []
        """In which the agents do what they are told, one for each."""
        self._draw = random.Random(7)

    async def build(self, *, hosts: int = HOSTS) -> None:
        """Register hosts that do what they are told, and create services."""
        for number in range(1, hosts + 1):
            agent = ScriptedAgent(
                self.endpoint,
                token=TOKEN,
                resources=_resources(number),
                agent_version="0.1.0",
                attributes=CAPABILITIES | {_AWSLOGS: ""},
            )
            await agent.register()
            self.agents.append(agent)
            self.at_work.append(asyncio.create_task(agent.obey()))
        for name in SERVICES:
            await self.endpoint.call("RegisterTaskDefinition", **_definition(name))
        for name, count in SERVICES.items():
            await self.endpoint.call(
                "CreateService", serviceName=name, taskDefinition=name, desiredCount=count
            )

    async def close(self) -> None:
        """End the agents."""
        for task in self.at_work:
            task.cancel()
        await asyncio.gather(*self.at_work, return_exceptions=True)

    async def running(self) -> list[str]:
        """Return ARNs of the tasks that run."""
        found: list[str] = []
        asked: dict[str, Any] = {}
        while True:
            page = await self.endpoint.call("ListTasks", **asked)
            found += page["taskArns"]
            if not page.get("nextToken"):
                break
            asked = {"nextToken": page["nextToken"]}
        tasks: list[dict[str, Any]] = []
        for start in range(0, len(found), 100):
            part = await self.endpoint.call("DescribeTasks", tasks=found[start : start + 100])
            tasks += part["tasks"]
        return [task["taskArn"] for task in tasks if task["lastStatus"] == "RUNNING"]

    async def tell_usage(self) -> None:
        """Let every agent send figures of its host and tasks."""
        for agent in self.agents:
            running = [arn for arn, wanted in agent.held.items() if wanted == "RUNNING"]
            tasks = [
                TaskUsage(
                    task_arn=arn,
                    cpu_units=statistics.of([self._draw.uniform(20, 200)]),
                    memory_bytes=statistics.of([self._draw.uniform(40, 110) * _MIB]),
                    rx_bytes_per_s=statistics.of([self._draw.uniform(1e3, 9e5)]),
                    tx_bytes_per_s=statistics.of([self._draw.uniform(1e3, 9e5)]),
                )
                for arn in running
            ]
            cpu = sum(task.cpu_units.average for task in tasks if task.cpu_units)
            host = HostUsage(
                cpu_units=statistics.of([cpu + 150]),
                memory_used_bytes=statistics.of([(900 + 85 * len(tasks)) * float(_MIB)]),
                memory_total_bytes=4096 * _MIB,
                disk_used_bytes=statistics.of([21e9 + self._draw.uniform(0, 9e9)]),
                disk_total_bytes=64_000_000_000,
            )
            status, body = await agent.send(
                "POST", f"/v1/instances/{agent.id}/usage", Usage(host=host, tasks=tasks)
            )
            assert status in (200, 204), body

    async def fail(self, arn: str, *, exit_code: int, reason: str) -> None:
        """Let a task end by itself with an exit code."""
        agent = next(each for each in self.agents if arn in each.held)
        container = ContainerChange(
            container_name="main", status="STOPPED", runtime_id="r1", exit_code=exit_code
        )
        now = time.time()
        await agent.report(
            a_report(
                arn,
                "STOPPED",
                stop_code="EssentialContainerExited",
                reason=reason,
                containers=[container],
                execution_stopped_at=now,
                stopped_at=now,
            )
        )

    async def log(self, arn: str, messages: list[str]) -> None:
        """Write lines into the log of a task, a second apart."""
        task = await self.endpoint.task(arn)
        family = task["taskDefinitionArn"].rsplit("/", 1)[1].partition(":")[0]
        group, stream = f"/ecs/{family}", f"{family}/main/{arn.rsplit('/', 1)[1]}"
        for operation, more in (
            ("CreateLogGroup", {}),
            ("CreateLogStream", {"logStreamName": stream}),
        ):
            with contextlib.suppress(aiohttp.ClientResponseError):
                await self._logs(operation, logGroupName=group, **more)
        now = int(time.time() * 1000)
        await self._logs(
            "PutLogEvents",
            logGroupName=group,
            logStreamName=stream,
            logEvents=[
                {"timestamp": now - 1000 * (len(messages) - i), "message": message}
                for i, message in enumerate(messages)
            ],
        )

    async def _logs(self, operation: str, **request: Any) -> None:
        headers = {
            "X-Amz-Target": f"Logs_20140328.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        async with self.endpoint.session.post(
            self.endpoint.url, json=request, headers=headers
        ) as answer:
            answer.raise_for_status()

    def tell_history(self, arn: str, service: str, host: str) -> None:
        """Write an hour of figures of one task, one service and one host into control's metrics."""
        task_scope = scopes.task("default", arn.rsplit("/", 1)[1], service)
        now = int(time.time() // 60)
        file = MetricsFile.open(self.data_dir / METRICS, Bounds())
        for minute in range(now - 60, now):
            file.add(
                minute,
                {
                    task_scope: {
                        catalogue.CPU_UTILIZED.number: self._wave(minute, 40, 190),
                        catalogue.MEMORY_UTILIZED.number: self._wave(minute + 9, 70, 96),
                    },
                    scopes.service("default", service): {
                        catalogue.CPU_UTILIZATION.number: self._wave(minute + 3, 18, 64),
                        catalogue.MEMORY_UTILIZATION.number: self._wave(minute + 20, 52, 71),
                    },
                    scopes.instance("default", host): {
                        catalogue.INSTANCE_CPU_UTILIZATION.number: self._wave(minute + 3, 18, 64),
                        catalogue.INSTANCE_MEMORY_UTILIZATION.number: self._wave(minute, 38, 47),
                    },
                },
            )
        file.close()

    def _wave(self, minute: int, low: float, high: float) -> statistics.StatisticSet:
        """Return a figure that goes up and down by the minute."""
        at = 0.5 + 0.45 * math.sin(minute / 7) * math.cos(minute / 23)
        value = low + (high - low) * (at + self._draw.uniform(-0.05, 0.05))
        return statistics.StatisticSet(value, value, value, 1)


@contextlib.asynccontextmanager
async def a_shop(folder: Path, **settings: Any) -> AsyncIterator[Shop]:
    """Run a control with keys and tokens, and yield a cluster in it that is still empty."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys, tokens, socket = folder / "credentials", folder / "tokens", folder / "sock"
    for path, text in (
        (keys, f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"),
        (tokens, f"{TOKEN}\n"),
    ):
        path.touch(mode=0o600)
        path.write_text(text)
    async with control_endpoint(
        folder / "data", keys_file=keys, token_file=tokens, socket=socket, **settings
    ) as endpoint:
        connector = aiohttp.UnixConnector(str(socket), limit=0)
        async with aiohttp.ClientSession(connector=connector) as owner:
            shop = Shop(Endpoint("http://localhost", owner), endpoint.url, folder / "data")
            await shop.endpoint.call("CreateCluster", clusterName="default")
            try:
                yield shop
            finally:
                await shop.close()


def _resources(number: int) -> HostResources:
    has_gpus = number > 18
    return HostResources(
        cpu_units=4096,
        memory_mib=4096,
        reserved_tcp=frozenset({22}),
        hostname=f"rack{1 + number // 8}-node{number:02}",
        architecture="x86_64",
        os_family="debian_12",
        kernel="6.1.0-28-amd64",
        engine_version="27.3.1",
        gpus=tuple(Gpu(uuid=f"GPU-{number}-{n}") for n in range(2)) if has_gpus else (),
    )


def _definition(name: str) -> dict[str, Any]:
    return {
        "family": name,
        "containerDefinitions": [
            {
                "name": "main",
                "image": f"registry.example/shop/{name}:2026.11",
                "cpu": 256,
                "memory": 128,
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": f"/ecs/{name}", "awslogs-stream-prefix": name},
                },
            }
        ],
    }
