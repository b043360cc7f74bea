"""Amazon's own agent, written in Go, as a process beside our control endpoint.

``ECS_GO_AGENT`` names its executable; nothing here runs without it. It runs as an external instance
with a data directory of its own, and speaks to the loopback alone. It listens on fixed ports (51678
and 51679), so that there can be one on a machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import (
    KEYS,
    TOKEN,
    Control,
    Process,
    eventually,
    free_port,
    give_keys,
    remove_containers,
    task_containers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BINARY = os.environ.get("ECS_GO_AGENT", "")


@dataclass
class GoAgent(Process):
    """Amazon's agent."""

    def start(self) -> None:
        """Start it; it registers by itself."""
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [BINARY, "-blackhole-ec2-metadata"],
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **self.environment},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def go_agent(directory: Path, url: str, *, secret: str = TOKEN, **more: str) -> GoAgent:
    """Return an agent for a control endpoint, not started yet."""
    data = directory / "go-data"
    data.mkdir(exist_ok=True)
    environment = {
        **KEYS,
        "AWS_SECRET_ACCESS_KEY": secret,
        "ECS_EXTERNAL": "true",
        "ECS_BACKEND_HOST": url,
        "ECS_CLUSTER": "default",
        "ECS_DATADIR": str(data),
        "ECS_HOST_DATA_DIR": str(directory),
        "ECS_LOGLEVEL": "info",
        "ECS_AUDIT_LOGFILE_DISABLED": "true",
        "ECS_AGENT_CONFIG_FILE_PATH": str(directory / "absent.json"),
        "ECS_DISABLE_IMAGE_CLEANUP": "true",
        "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        "ECS_ENABLE_TASK_CPU_MEM_LIMIT": "false",
        "ECS_EBSTA_SUPPORTED": "false",
        "ECS_CONTAINER_STOP_TIMEOUT": "2s",
        **more,
    }
    return GoAgent(name="go-agent", arguments=[], directory=directory, environment=environment)


class Place:
    """A control endpoint with Amazon's agent as its host."""

    def __init__(self, directory: Path, *control_options: str, secret: str = TOKEN) -> None:
        port = free_port()
        data = ["--data-dir", str(directory / "control")]
        give_keys(directory / "control")
        self.control = Control(
            name="control",
            arguments=["control", "--listen", f"127.0.0.1:{port}", *data, *control_options],
            directory=directory,
            port=port,
        )
        self.agent = go_agent(directory, self.control.url, secret=secret)

    @property
    def client(self) -> Any:
        """A boto3 client, as any operator makes one."""
        import boto3  # noqa: PLC0415 - slow to import; only tests with processes need it

        return boto3.client(
            "ecs",
            endpoint_url=self.control.url,
            region_name=KEYS["AWS_DEFAULT_REGION"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def start(self) -> None:
        """Start both and wait until control sees the agent."""
        self.control.start()
        self.control.ready()
        self.agent.start()
        self.wait_connected()

    def instances(self) -> list[dict[str, Any]]:
        """Return every instance of the cluster."""
        client = self.client
        try:
            arns = client.list_container_instances()["containerInstanceArns"]
        except client.exceptions.ClusterNotFoundException:
            return []  # made by the first registration
        if not arns:
            return []
        found = client.describe_container_instances(containerInstances=arns)
        return list(found["containerInstances"])

    def wait_connected(self) -> dict[str, Any]:
        """Return the one instance once its agent is connected."""

        def connected() -> dict[str, Any] | None:
            assert self.agent.is_alive(), f"the agent ended:\n{self.agent.tail()}"
            found = self.instances()
            return found[0] if found and found[0]["agentConnected"] else None

        answer: dict[str, Any] = eventually(connected, what="Amazon's agent is connected")
        return answer

    def task(self, arn: str) -> dict[str, Any]:
        """Describe one task."""
        (task,) = self.client.describe_tasks(tasks=[arn])["tasks"]
        shown: dict[str, Any] = task
        return shown

    def until(self, arn: str, status: str, *, within_s: float = 40.0) -> dict[str, Any]:
        """Return the task once it has this status."""

        def there() -> dict[str, Any] | None:
            task = self.task(arn)
            return task if task["lastStatus"] == status else None

        answer: dict[str, Any] = eventually(there, within_s=within_s, what=f"task {status}")
        return answer

    def known_to_the_agent(self) -> list[dict[str, Any]]:
        """Return the tasks that the agent itself tells of; none while it does not answer."""
        try:
            with urllib.request.urlopen("http://127.0.0.1:51678/v1/tasks", timeout=5) as answer:
                return list(json.load(answer)["Tasks"])
        except OSError:
            return []

    def end(self) -> None:
        """Stop everything that still runs."""
        for process in (self.agent, self.control):
            if process.is_alive():
                with contextlib.suppress(AssertionError):
                    process.stop()


@contextlib.contextmanager
def place(directory: Path, *control_options: str, secret: str = TOKEN) -> Iterator[Place]:
    """Run control and agent for the time of a test; containers are removed afterwards."""
    before = task_containers()
    made = Place(directory, *control_options, secret=secret)
    try:
        yield made
    except BaseException:
        for process in (made.control, made.agent):
            sys.stderr.write(f"--- {process.name}\n{process.tail(60)}\n")
        raise
    finally:
        made.end()
        remove_containers(task_containers() - before)


@pytest.fixture
def started(leak_check: None, tmp_path: Path) -> Iterator[Place]:
    """Control with Amazon's agent, connected."""
    del leak_check
    with place(tmp_path) as made:
        made.start()
        yield made
