"""The operator's side of a cluster whose control endpoint runs in a VM: tasks through the ECS API."""

from __future__ import annotations

import json
import time
from typing import Any

import boto3
from botocore.config import Config

SLOW_S = 480.0
"""A launch takes a second on a real machine, and software emulation is slow."""


class Operator:
    """Defines, runs and watches tasks.

    ``port`` is that of the API on this machine's loopback, ``environment`` what ``ecs-agent env
    --json`` printed where control runs.
    """

    def __init__(self, port: int, environment: str, cluster: str = "default") -> None:
        self.cluster = cluster
        keys = json.loads(environment)
        self._ecs: Any = boto3.client(
            "ecs",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=keys["AWS_DEFAULT_REGION"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(
                retries={"max_attempts": 4}, connect_timeout=10, read_timeout=60, proxies={}
            ),
        )

    def instances(self) -> list[dict[str, Any]]:
        """Return every container instance of the cluster as control describes it."""
        arns = self._ecs.list_container_instances(cluster=self.cluster)["containerInstanceArns"]
        if not arns:
            return []
        answer = self._ecs.describe_container_instances(
            cluster=self.cluster, containerInstances=arns
        )
        return list(answer["containerInstances"])

    def define(
        self, family: str, image: str, command: list[str], *, mode: str, **more: Any
    ) -> None:
        """Register a task definition of one container, named ``main``; ``more`` is of that one."""
        self._ecs.register_task_definition(
            family=family,
            networkMode=mode,
            containerDefinitions=[
                {
                    "name": "main",
                    "image": image,
                    "memory": 64,
                    "essential": True,
                    "command": command,
                    **more,
                }
            ],
        )

    def define_task(
        self, family: str, containers: list[dict[str, Any]], *, mode: str = "none", **fields: Any
    ) -> None:
        """Register a task definition of these containers; ``fields`` are of the task."""
        self._ecs.register_task_definition(
            family=family, networkMode=mode, containerDefinitions=containers, **fields
        )

    def stop(self, arn: str) -> None:
        """Stop a task."""
        self._ecs.stop_task(cluster=self.cluster, task=arn)

    def run(self, family: str) -> str:
        """Run one task and return its ARN."""
        definition = self._ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        network: dict[str, Any] = {}
        if definition["networkMode"] == "awsvpc":
            network["networkConfiguration"] = {"awsvpcConfiguration": {"subnets": ["any"]}}
        answer = self._ecs.run_task(cluster=self.cluster, taskDefinition=family, **network)
        assert not answer["failures"], answer["failures"]
        return str(answer["tasks"][0]["taskArn"])

    def task(self, arn: str) -> dict[str, Any]:
        """Return the task as control describes it."""
        answer = self._ecs.describe_tasks(cluster=self.cluster, tasks=[arn])
        assert not answer["failures"], answer["failures"]
        return dict(answer["tasks"][0])

    def wait(self, arn: str, status: str, *, within_s: float = SLOW_S) -> dict[str, Any]:
        """Return the task once it is ``status``; fails when it stops instead or is late."""
        deadline = time.monotonic() + within_s
        while True:
            task = self.task(arn)
            if task["lastStatus"] == status:
                return task
            assert task["lastStatus"] != "STOPPED", f"{arn} stopped: {task}"
            assert time.monotonic() < deadline, f"{arn} is not {status}: {task}"
            time.sleep(1)

    def wait_stopped(self, arn: str, *, within_s: float = SLOW_S) -> dict[str, Any]:
        """Return the task once it has stopped."""
        deadline = time.monotonic() + within_s
        while (task := self.task(arn))["lastStatus"] != "STOPPED":
            assert time.monotonic() < deadline, f"{arn} does not stop: {task}"
            time.sleep(1)
        return task

    def launch(self, family: str) -> dict[str, Any]:
        """Run one task and return it once it runs."""
        return self.wait(self.run(family), "RUNNING")


def address(task: dict[str, Any]) -> str:
    """Return the address of a task in ``awsvpc`` mode."""
    details = [d for attachment in task["attachments"] for d in attachment["details"]]
    return next(str(d["value"]) for d in details if d["name"] == "privateIPv4Address")
