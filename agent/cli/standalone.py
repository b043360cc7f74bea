"""``ecs-agent standalone``: a control endpoint and an agent on this host, as two child processes.

The parent starts the control endpoint, waits until it answers, creates the cluster, starts the agent,
and keeps both running. The parent itself changes nothing on the host, but holds the sockets that the
engine's log driver calls, so that a restart of the agent costs no log lines. SIGTERM or SIGINT stops the
agent, then control, and leaves every container running.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from agent.cli import (
    audit_options,
    console_options,
    event_options,
    forward_options,
    host_hook_options,
    listen,
    log_options,
    output,
    role_options,
)
from agent.cli.client import AgentClient, CliError
from agent.cli.env import DATA_DIRS, TOKENS
from agent.cli.supervise import Child, ChildGaveUp
from agent.config import DEFAULT_FILES, addresses, load
from agent.errors import ExitCode
from agent.model.ids import cluster_name, instance_id
from agent.supervision import held_sockets
from agent.supervision.held_sockets import HeldSockets
from agent.supervision.loopback_server import LOOPBACK
from agent.supervision.notify import Notifier

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.config.addresses import HostPort
    from agent.model.views import AgentView

ASK_EVERY_S = 0.1
ANSWER_LIMIT_S = 2.0
CONTROL_READY_LIMIT_S = 60.0
SLOW_AFTER_S = 20.0
_TARGET = "AmazonEC2ContainerServiceV20141113"
_KNOWN = frozenset(ExitCode)
_FAILED = ExitCode.ERROR


class _Plan(NamedTuple):
    address: HostPort
    data_dir: Path
    config: str
    settings: Settings
    is_open: bool = False
    handed_on: tuple[str, ...] = ()
    """Arguments of control that are given to standalone."""
    has_console: bool = False

    @property
    def control_dir(self) -> Path:
        return self.data_dir / "control"

    @property
    def socket(self) -> Path:
        return self.control_dir / "control.sock"

    @property
    def cluster(self) -> str:
        return cluster_name(self.settings.cluster)

    def control_arguments(self) -> list[str]:
        return [
            "control",
            *("--listen", self.address.text()),
            *("--data-dir", str(self.control_dir)),
            *("--socket", str(self.socket)),
            *(["--open"] if self.is_open else []),
            *self.handed_on,
        ]

    def agent_arguments(self) -> list[str]:
        return ["run", *(["--config", self.config] if self.config else [])]

    def agent_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **({} if self.settings.offer_fargate is False else {"ECS_OFFER_FARGATE": "true"}),
            **(
                {}
                if self.settings.fargate_all_clusters is False
                else {"ECS_FARGATE_ALL_CLUSTERS": "true"}
            ),
            "ECS_CONTROL_ENDPOINT": listen.url(self.address),
            "ECS_DATADIR": str(self.data_dir / "agent"),
            **({} if self.is_open else {"ECS_CONTROL_TOKEN_FILE": str(self.control_dir / TOKENS)}),
        }


@click.command()
@listen.listen_option("Address that the control endpoint listens on; port 0 picks a free port.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ecs"),
    show_default=True,
    help="Directory for the state of both.",
)
@click.option("--config", default="", metavar="FILE", help="Settings file of the agent.")
@click.option(
    "--open",
    "is_open",
    is_flag=True,
    help="Require no keys and no tokens. Anyone who can reach the port, such as any user of this "
    "machine, then controls this host as root. For labs only.",
)
@console_options.console_option(console_options.KEYS)
@role_options.role_options
@log_options.log_options
@event_options.event_options
@host_hook_options.host_hook_options
@audit_options.audit_options
@forward_options.forward_options
def standalone(listen_on: str, data_dir: Path, config: str, is_open: bool, **given: Any) -> int:
    """Run a control endpoint and an agent on this host.

    `eval $(ecs-agent env)` gives the AWS tools the key that is created at the first start. The host
    registers into the cluster that ECS_CLUSTER names, else `default`; the cluster is created if
    missing. SIGTERM stops both with exit code 0; containers keep running.
    """
    files = [Path(config)] if config else DEFAULT_FILES
    # Read the settings as the agent will, to refuse a host that is set up for Amazon ECS right now.
    environ = {**os.environ, "ECS_CONTROL_ENDPOINT": "http://127.0.0.1"}
    settings = load(environ, files, required=bool(config))
    if os.geteuid() != 0:
        raise CliError(
            "standalone needs root to create networks and namespaces; use sudo",
            exit_code=ExitCode.TERMINAL,
        )
    address = listen.claim(listen.parse(listen_on))
    handed_on = (
        *role_options.arguments(given),
        *log_options.arguments(given),
        *event_options.arguments(given),
        *host_hook_options.arguments(given),
        *audit_options.arguments(given),
        *forward_options.arguments(given),
        *console_options.arguments(given),
    )
    plan = _Plan(
        address,
        data_dir.absolute(),
        config,
        settings,
        is_open,
        handed_on,
        has_console=given["console"] != console_options.OFF,
    )
    if len(os.fsencode(plan.socket)) > listen.SOCKET_PATH_LIMIT:
        raise CliError(
            f"--data-dir {data_dir}: is too long for a Unix socket in it; use a shorter path"
        )
    return asyncio.run(_run(plan))


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed; both must still stop in order
        output.line(f"ecs-agent standalone: {text}")


async def _run(plan: _Plan) -> int:
    control = Child("control endpoint", plan.control_arguments(), os.environ, _say)
    agent = Child(
        "agent",
        plan.agent_arguments(),
        plan.agent_environment(),
        _say,
        must_start=False,
        sockets=_sockets(plan.settings),
    )
    told = _on_signals([control, agent])
    try:
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(control.run()),
                group.create_task(_bring_up(plan, control, agent)),
            ]
            group.create_task(_stop_when(told, [agent, control], work))
    except ExceptionGroup as failures:
        raise _first_told(failures) from None
    finally:
        await agent.stop()
        await control.stop()
    return ExitCode.SUCCESS


def _sockets(settings: Settings) -> HeldSockets:
    """Return the sockets at which the engine's log driver waits while the agent is restarted."""
    held = HeldSockets(Notifier(), {})
    for name, host, port in (
        (held_sockets.TASKS, addresses.TASK_ADDRESS, addresses.TASK_PORT),
        (held_sockets.LOGS, LOOPBACK, settings.log_relay_port),
    ):
        with contextlib.suppress(OSError):  # the agent tries again, and says what is wrong
            held.listening(name, host, port).close()
    return held


def _first_told(group: ExceptionGroup[Exception]) -> Exception:
    """Return the one failure to report; the group itself if it is a bug in this program."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            return _first_told(error)
        if isinstance(error, ChildGaveUp):
            code = error.exit_code
            return CliError(str(error), exit_code=ExitCode(code) if code in _KNOWN else _FAILED)
        if isinstance(error, CliError):
            return error
    return group


def _on_signals(children: list[Child]) -> asyncio.Event:
    """Return the event that the first stop signal sets; the second signal kills the children.

    A closed terminal (SIGHUP) counts as a stop signal, unless ``nohup`` ignores it.
    """
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            for child in children:
                child.kill()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        loop.add_signal_handler(number, on_signal)
    return told


async def _stop_when(
    told: asyncio.Event, children: list[Child], work: list[asyncio.Task[None]]
) -> None:
    await told.wait()
    _say("stopping; containers keep running")
    for child in children:
        await child.stop()
    for task in work:
        task.cancel()
    _say("stopped")


async def _bring_up(plan: _Plan, control: Child, agent: Child) -> None:
    """Start the agent once control answers, and say when the host takes tasks."""
    await _until_control_answers(plan)
    control.was_ready.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        group.create_task(_announce(plan, agent))


async def _until_control_answers(plan: _Plan) -> None:
    try:
        async with asyncio.timeout(CONTROL_READY_LIMIT_S):
            while not await asyncio.to_thread(_make_cluster, plan):  # noqa: ASYNC110 - only polling shows when another process listens
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError:
        raise CliError(
            f"the control endpoint on {listen.url(plan.address)} did not answer within "
            f"{CONTROL_READY_LIMIT_S:g} s; see its messages above"
        ) from None


async def _announce(plan: _Plan, agent: Child) -> None:
    client = AgentClient(str(plan.settings.socket_path), limit_s=ANSWER_LIMIT_S)
    begun = asyncio.get_running_loop().time()
    patient = True
    while (view := await asyncio.to_thread(_agent_view, client)) is None or not _is_up(view, plan):
        if patient and asyncio.get_running_loop().time() - begun > SLOW_AFTER_S:
            patient = False
            _say(f"still waiting for the agent{_trouble(view)}")
        await asyncio.sleep(ASK_EVERY_S)
    agent.was_ready.set()
    _say(f"ready: cluster {plan.cluster}, instance {instance_id(view.instance_arn)}")
    cluster = "" if plan.cluster == "default" else f" --cluster {plan.cluster}"
    where = "" if plan.control_dir in DATA_DIRS else f" --data-dir {plan.data_dir}"
    _say(f"try: eval $(ecs-agent env{where}) && aws ecs list-container-instances{cluster}")
    if plan.has_console:
        _say(f"look: {listen.url(plan.address)}/console/")


def _is_up(view: AgentView, plan: _Plan) -> bool:
    """Return whether this is our agent and registered; an old agent may still have the socket."""
    return view.control_connected and view.control_endpoint == listen.url(plan.address)


def _trouble(view: AgentView | None) -> str:
    if view is None:
        return "; see its messages above"
    troubles = [*view.degraded, *([view.control_error] if view.control_error else [])]
    return f": {'; '.join(troubles)}" if troubles else ""


def _agent_view(client: AgentClient) -> AgentView | None:
    """Return the state of the agent; None while it does not answer."""
    with contextlib.suppress(CliError):
        return client.agent()
    return None


def _make_cluster(plan: _Plan) -> bool:
    """Create the cluster unless it exists; return False while control does not answer."""
    connection = http.client.HTTPConnection("localhost", timeout=ANSWER_LIMIT_S)
    headers = {
        "X-Amz-Target": f"{_TARGET}.CreateCluster",
        "Content-Type": "application/x-amz-json-1.1",
    }
    body = msgspec.json.encode({"clusterName": plan.cluster})
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_LIMIT_S)
        connection.sock.connect(str(plan.socket))
        connection.request("POST", "/", body=body, headers=headers)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    if 400 <= response.status < 500:
        text = answer[:300].decode("utf-8", errors="replace")
        raise CliError(f"cluster {plan.cluster} cannot be created: {text}; fix ECS_CLUSTER")
    return response.status == 200
