"""Real agent and control processes for end-to-end tests, started as a user would.

Every agent of a test has its own bridge, pool, firewall table, data directory and socket, so that
tests affect neither each other nor an agent installed on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import msgspec

from agent.cli.client import AgentClient, CliError
from tests.support import forked
from tests.support.leaks import agent_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = Path(sys.executable).with_name("ecs-agent")

TOKEN = "token-of-the-tests-0123456789"  # noqa: S105 - of tests
"""Token of the agents in tests."""
KEYS = {
    "AWS_ACCESS_KEY_ID": "ECSKTESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests-0123456789",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Settings of a client besides the endpoint's URL."""


def give_keys(control_dir: Path) -> None:
    """Write the key and the token of the tests to where control reads them."""
    control_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = (
        f"[default]\naws_access_key_id = {KEYS['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {KEYS['AWS_SECRET_ACCESS_KEY']}\n"
    )
    for name, text in (("credentials", keys), ("agent.tokens", f"{TOKEN}\n")):
        path = control_dir / name
        path.touch(mode=0o600)
        path.write_text(text)


LONG_POLL = "long poll"
ACS = "ACS"
WIRES = (LONG_POLL, ACS)
"""The two protocols between an agent and our control endpoint."""


def free_port() -> int:
    """Return an unused TCP port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(
    check: Callable[[], Any],
    *,
    within_s: float = 60.0,
    what: str = "",
    shown: Callable[[], object] | None = None,
) -> Any:
    """Return the first truthy answer of ``check``; fail if there is none in time.

    Tests run side by side on few processors: a check that is costly, such as a command, is made less
    often, so that waiting takes a third of a processor at most.

    Args:
        check: is asked again and again.
        within_s: after how many seconds to fail.
        what: is awaited, for the failure.
        shown: what the failure tells besides.
    """
    deadline = time.monotonic() + within_s
    while True:
        began = time.monotonic()
        answer = check()
        if answer:
            return answer
        now = time.monotonic()
        if began > deadline:
            more = f"; {shown()!r}" if shown is not None else ""
            raise AssertionError(
                f"not within {within_s} s: {what or check}; last answer {answer!r}{more}"
            )
        time.sleep(min(max(0.02, 2 * (now - began)), max(0.02, deadline - now)))


_HAND_OVER = """
import fcntl, os, sys
names, numbers, *command = sys.argv[1:]
copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers.split(",")]
for place, copy in enumerate(copies, 3):
    os.dup2(copy, place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


@dataclass
class Process:
    """One process, with its output in a file."""

    name: str
    arguments: list[str]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    wrapper: list[str] = field(default_factory=list)
    """A command that runs the process, such as one that drops privileges."""
    sockets: dict[str, int] = field(default_factory=dict)
    """Descriptors that a service manager passes to it, by name."""
    popen: subprocess.Popen[bytes] | forked.Forked | None = None

    @property
    def log(self) -> Path:
        """Path of its output."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.popen is not None, f"{self.name} was not started"
        return self.popen.pid

    def start(self) -> None:
        """Start it; ``ready`` waits until it serves.

        Where parents to fork from are open, it is forked, unless it is started in a way of its own.
        """
        keep = {k: v for k, v in os.environ.items() if not k.startswith("ECS_")}
        parents = forked.current()
        is_plain = not (self.wrapper or self.sockets) and self.arguments[0] in forked.KINDS
        if parents is not None and is_plain:
            self.popen = parents.start(self.arguments, {**keep, **self.environment}, self.log)
            return
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [*self._handing_over(), *self.wrapper, str(COMMAND), *self.arguments],
                env={**keep, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=list(self.sockets.values()),
            )

    def _handing_over(self) -> list[str]:
        """Return a command that hands the sockets over as systemd does (sd_listen_fds(3))."""
        if not self.sockets:
            return []
        numbers, names = [str(fd) for fd in self.sockets.values()], ":".join(self.sockets)
        return [sys.executable, "-c", _HAND_OVER, names, ",".join(numbers)]

    def stop(self, *, within_s: float = 60.0) -> int:
        """Ask it to stop and return its exit code; kill it if it does not stop."""
        if self.popen is None:
            return 0
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignored SIGTERM:\n{self.tail()}") from None
        finally:
            self.popen = None

    def kill(self) -> None:
        """Kill it, to simulate a crash."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            self.popen = None

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self.popen is not None and self.popen.poll() is None

    def tail(self, lines: int = 40) -> str:
        """Return the end of its output, for failures."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class Control(Process):
    """A control endpoint."""

    port: int = 0

    @property
    def url(self) -> str:
        """The URL for agents and for operators."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> None:
        """Return once it answers."""

        def answers() -> bool:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.url}/healthz", timeout=2),
            ):
                return True
            assert self.is_alive(), f"control ended:\n{self.tail()}"
            return False

        eventually(answers, what="control answers")


@dataclass
class Agent(Process):
    """An agent with a host identity of its own."""

    index: int = 0

    @property
    def socket(self) -> Path:
        """Its operator socket."""
        return self.directory / f"{self.name}.sock"

    def cli(self, *words: str, check: bool = True) -> str:
        """Run a command of the CLI against it and return what it printed."""
        done = subprocess.run(
            [str(COMMAND), *words],
            env={**os.environ, "ECS_AGENT_SOCKET": str(self.socket)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.stderr}\n{self.tail()}"
        return done.stdout

    def json(self, command: str, *words: str) -> Any:
        """Return what ``tasks``, ``task TASK`` or ``status`` prints with ``--json``.

        Asks the agent as they do, without a process: tests ask again and again.
        """
        client = AgentClient(str(self.socket))
        asks: dict[str, Callable[..., object]] = {
            "status": client.agent,
            "task": client.task,
            "tasks": client.tasks,
        }
        return json.loads(msgspec.json.encode(asks[command](*words)))

    def is_connected(self) -> bool:
        """Return whether it takes orders from control; one that is starting does not yet."""
        try:
            return bool(self.json("status")["controlConnected"])
        except CliError:
            return False

    def has_no_tasks(self) -> bool:
        """Return whether it has forgotten every task; an agent that is starting does not know yet."""
        try:
            return not self.json("tasks")
        except CliError:
            return False


@dataclass
class Fleet:
    """A control endpoint and its agents, in one directory."""

    directory: Path
    extra: dict[str, str] = field(default_factory=dict)
    wire: str = LONG_POLL
    store: str = ""
    """Address of an etcd for the fleet; a file if empty."""
    control: Control = field(init=False)
    before: set[str] = field(default_factory=set)
    agents: list[Agent] = field(default_factory=list)
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.before = task_containers()
        port = free_port()
        data = self.directory / "control"
        give_keys(data)
        self.control = self.control_in(data, port)

    def control_in(self, data: Path, port: int, name: str = "control") -> Control:
        """Return a control with a data directory; it is not started yet."""
        arguments = ["control", "--listen", f"127.0.0.1:{port}", "--data-dir", str(data)]
        if self.store:
            arguments += ["--store", self.store]
        return Control(name=name, arguments=arguments, directory=self.directory, port=port)

    def add_agent(self, **environment: str) -> Agent:
        """Create an agent of this control; it is not started yet."""
        index = len(self.agents)
        name = f"agent{index}"
        agent = Agent(name=name, arguments=["run"], directory=self.directory, index=index)
        agent.environment = {
            **self.way_to_control(),
            "ECS_DATADIR": str(self.directory / f"{name}-data"),
            "ECS_AGENT_SOCKET": str(agent.socket),
            "ECS_TASK_BRIDGE": f"ecst-br{index}",
            "ECS_TASK_POOL_CIDR": f"10.219.{4 * index}.0/22",
            "ECS_WARM_SANDBOXES": "2",
            "ECS_FIREWALL_TABLE": f"ecs_test_{index}",
            "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
            **self.extra,
            **environment,
        }
        self.agents.append(agent)
        return agent

    def way_to_control(self) -> dict[str, str]:
        """Return the settings with which an agent reaches this control and is admitted."""
        if self.wire == LONG_POLL:
            tokens = str(self.directory / "control" / "agent.tokens")
            return {"ECS_CONTROL_ENDPOINT": self.control.url, "ECS_CONTROL_TOKEN_FILE": tokens}
        return {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": TOKEN,
            "AWS_EC2_METADATA_DISABLED": "true",
            "ECS_BACKEND_HOST": self.control.url,
            "ECS_EXTERNAL": "true",
        }

    def client(self, service: str = "ecs") -> Any:
        """Return the boto3 client of an API of the control endpoint, created like any operator's."""
        if service not in self._clients:  # each reads the model of its API: 50 ms
            import boto3  # noqa: PLC0415 - slow to import; only end-to-end tests need it

            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.control.url,
                region_name=KEYS["AWS_DEFAULT_REGION"],
                aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            )
        return self._clients[service]

    def start(self) -> None:
        """Start the control endpoint and every agent, and wait until the agents are connected."""
        self.control.start()
        self.control.ready()
        for agent in self.agents:
            agent.start()
        self.wait_connected()

    def wait_connected(self, *, within_s: float = 60.0) -> None:
        """Return once control sees every agent."""
        client = self.client()

        def connected() -> bool:
            for agent in self.agents:
                assert agent.is_alive(), f"{agent.name} ended:\n{agent.tail()}"
            try:
                arns = client.list_container_instances()["containerInstanceArns"]
            except client.exceptions.ClusterNotFoundException:
                return False  # created by the first registration
            if len(arns) < len(self.agents):
                return False
            found = client.describe_container_instances(containerInstances=arns)
            return all(i["agentConnected"] for i in found["containerInstances"])

        eventually(connected, within_s=within_s, what="all agents connected")

    def stop_tasks(self) -> None:
        """Stop every task like an operator, and wait until its agent has forgotten it."""
        client = self.client()
        if self.agents:
            for arn in client.list_tasks()["taskArns"]:
                client.stop_task(task=arn)
        for agent in self.agents:
            eventually(agent.has_no_tasks, what=f"{agent.name} is empty")

    def end(self) -> None:
        """Stop whatever still runs; tasks first, if both sides can do that."""
        is_whole = all(p.is_alive() for p in (self.control, *self.agents))
        try:
            if is_whole:
                self.stop_tasks()
        finally:
            for process in (*self.agents, self.control):
                if process.is_alive():
                    process.stop()
            remove_containers(task_containers() - self.before)
            if not is_whole:
                remove_groups(self.directory)  # its tasks were not stopped, so nobody else does


def task_containers() -> set[str]:
    """Return the ids of all containers created by agents, of any test."""
    client = docker.APIClient(version="auto")
    try:
        return {
            row["Id"]
            for label in ("com.amazonaws.ecs.task-arn", "ecs-host-agent.sandbox")
            for row in client.containers(all=True, filters={"label": label})
        }
    finally:
        client.close()


def remove_groups(directory: Path) -> None:
    """Remove the control groups of the agents below a directory, with those of their tasks."""
    for owner in agent_groups(directory):
        for group in sorted([Path(owner), *Path(owner).rglob("*/")], reverse=True):
            with contextlib.suppress(OSError):  # the same directory of another hierarchy
                group.rmdir()


def remove_containers(ids: set[str]) -> None:
    """Remove containers by force; for leftovers of a failed test."""
    if ids:
        subprocess.run(["docker", "rm", "-f", *ids], capture_output=True, check=True)


@contextlib.contextmanager
def fleet(
    directory: Path, *, agents: int = 1, wire: str = LONG_POLL, store: str = "", **extra: str
) -> Iterator[Fleet]:
    """Run a control endpoint with agents for the duration of a test."""
    made = Fleet(directory, extra=extra, wire=wire, store=store)
    for _ in range(agents):
        made.add_agent()
    try:
        made.start()
        yield made
    except BaseException:
        for process in (made.control, *made.agents):
            sys.stderr.write(f"--- {process.name}\n{process.tail()}\n")
        raise
    finally:
        made.end()
