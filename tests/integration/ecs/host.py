"""A real agent process with the test back end as its Amazon ECS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psutil

from tests.backend import messages
from tests.backend.backend import KEYS, Backend
from tests.support import images
from tests.support.fleet import Agent, eventually, remove_containers

if TYPE_CHECKING:
    from pathlib import Path

EXTERNAL = {
    "ECS_EXTERNAL": "true",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": KEYS.access_key,
    "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
}
"""What a host outside EC2 is told, besides where its back end is."""


def agent_of(backend: Backend, directory: Path, index: int, **environment: str) -> Agent:
    """Return an agent of a back end, not started, apart from every other on this machine."""
    agent = Agent(name=f"ecs{index}", arguments=["run"], directory=directory, index=index)
    agent.environment = {
        "ECS_BACKEND_HOST": backend.url,
        **EXTERNAL,
        "ECS_DATADIR": str(directory / f"{agent.name}-data"),
        "ECS_AGENT_SOCKET": str(agent.socket),
        "ECS_TASK_BRIDGE": f"ecst-e{index}",
        "ECS_TASK_POOL_CIDR": f"10.219.{128 + 4 * index}.0/22",
        "ECS_FIREWALL_TABLE": f"ecs_test_e{index}",
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
        **environment,
    }
    return agent


@dataclass
class Host:
    """One agent and its back end. Leaves no task behind when it ends."""

    backend: Backend
    agent: Agent
    image: str
    tasks: list[str] = field(default_factory=list)
    """ARNs of all tasks that were ordered."""
    kept: list[str] = field(default_factory=list)
    """Those that a test leaves running for others: every manifest must name them."""
    _seq: int = 0

    # -- processes --------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the agent and wait until both sessions are open."""
        acs, tcs = self.backend.acs.latest, self.backend.tcs.latest
        self.agent.start()
        self.wait_session(acs.number if acs else 0)
        self.backend.tcs.wait_open(after=tcs.number if tcs else 0)
        return self

    def wait_session(self, after: int = 0, *, within_s: float = 30.0) -> None:
        """Return when ACS is open, by a connection later than ``after``."""
        try:
            self.backend.acs.wait_open(after=after, within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.agent.tail()}") from None

    def crash(self) -> None:
        """Kill the agent as ``kill -9`` does; the next ``start`` is another life."""
        self.agent.kill()
        self.backend.lives += 1

    def process(self) -> psutil.Process:
        """Return the agent's process."""
        return psutil.Process(self.agent.pid)

    def log(self) -> str:
        """Return everything the agent has logged."""
        return self.agent.log.read_text(errors="replace")

    def end(self) -> None:
        """Stop tasks and agent; what is left of tasks is removed by force."""
        try:
            if self.agent.is_alive() and self.backend.acs.is_open:
                running = [a for a in self.tasks if self.containers(a, only_running=True)]
                if running:
                    self.order(*[messages.stop(a) for a in running])
                eventually(self.agent.has_no_tasks, what="the agent is empty")
                if self.backend.lives > 1:
                    # A crash leaves what may belong to a task that is to be named yet.
                    self.backend.acs.wait_ack(self.manifest())
                    self.backend.acs.beat()
        finally:
            if self.agent.is_alive():
                self.agent.stop()
            for arn in self.tasks:
                remove_containers(set(self.containers(arn)))

    # -- tasks ------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """Return the next sequence number."""
        self._seq += 1
        return self._seq

    def order(self, *tasks: dict[str, Any], **fields: Any) -> str:
        """Send tasks in one payload; return the message's id."""
        self.tasks += [t["arn"] for t in tasks if isinstance(t.get("arn"), str)]
        fields.setdefault("seq", self.next_seq())
        return self.backend.acs.order("PayloadMessage", **messages.payload(*tasks, **fields))

    def task(self, *command: str, arn: str = "", **fields: Any) -> dict[str, Any]:
        """Return a task of one container; without a command it lingers until it is stopped."""
        app = messages.container("app", self.image, *(command or images.LINGER))
        return messages.task(app, arn=arn, **fields)

    def run_task(self, *command: str, **fields: Any) -> str:
        """Order a task and return its ARN once it is reported RUNNING."""
        task = self.task(*command, **fields)
        self.backend.acs.wait_ack(self.order(task))
        self.wait(task["arn"], "RUNNING")
        return str(task["arn"])

    def stop_task(self, arn: str) -> None:
        """Stop a task and wait until that is reported."""
        self.order(messages.stop(arn))
        self.wait(arn, "STOPPED")

    def wait(self, arn: str, status: str, *, within_s: float = 30.0) -> Any:
        """Return the report of a status; shows the agent's log when it does not come."""
        try:
            return self.backend.wait_status(arn, status, within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.agent.tail()}") from None

    def manifest(self, *more: str, timeline: int | None = None) -> str:
        """Send a manifest of the kept tasks and more; return its id."""
        named = [messages.listed(a) for a in (*self.kept, *more)]
        at = self.next_seq() if timeline is None else timeline
        return self.backend.acs.order(
            "TaskManifestMessage", **messages.manifest(*named, timeline=at)
        )

    def containers(self, arn: str, *, only_running: bool = False) -> list[str]:
        """Return the engine's ids of a task's containers."""
        label = f"label=com.amazonaws.ecs.task-arn={arn}"
        flags = "-q" if only_running else "-aq"
        done = subprocess.run(
            ["docker", "ps", flags, "--no-trunc", "--filter", label],
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(done.stdout.split())

    def pid(self, arn: str) -> int:
        """Return the process id of the task's one running container."""
        [container] = self.containers(arn, only_running=True)
        done = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.Pid}}", container],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)
