"""The servers on this host: for tasks, for the log driver of the engine, for introspection."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from agent import logs
from agent.awslogs.relay import LogRelay
from agent.config.addresses import TASK_PORT
from agent.endpoints.introspection import Introspection
from agent.network.host import agent_address
from agent.resources import host_address
from agent.supervision import held_sockets
from agent.supervision.loopback_server import LoopbackServer
from agent.task_endpoint.audit import AuditLog
from agent.task_endpoint.audit_file import AuditFile
from agent.task_endpoint.callers import Callers, Ends
from agent.task_endpoint.metadata.parts import FilePlace, HostNames
from agent.task_endpoint.processes import ContainerProcesses
from agent.task_endpoint.server import TaskServer
from agent.task_endpoint.throttle import RequestRate
from agent.upstream.host_identity import AVAILABILITY_ZONE

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable

    from agent.awslogs.parts import LogParts
    from agent.config import Settings
    from agent.endpoints.introspection import Introspected
    from agent.engine.task_places import TaskPlace
    from agent.runtime.protocol import EngineInfo
    from agent.state import StateStore
    from agent.supervision.held_sockets import HeldSockets
    from agent.task_endpoint.contract import Route
    from agent.upstream.protocol import Control


@dataclass(frozen=True, slots=True)
class TaskRequests:
    """What answers the requests of tasks."""

    callers: Callers
    audit: AuditLog
    routes: list[Route]
    """Of all parts of ``task_endpoint``."""
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Answers by kind of path and HTTP status."""


def introspection(settings: Settings, agent: Introspected) -> list[Introspection]:
    """Return the introspection endpoint; none where the settings turn it off."""
    port = settings.introspection_port
    return [Introspection(agent, port=port)] if port else []


def host_names(
    settings: Settings, owner: str, store: StateStore, instance_arn: Callable[[], str]
) -> HostNames:
    """Return what tasks are told that this host is called.

    Args:
        settings: the settings.
        owner: names the agent whose containers they are.
        store: knows the zone that Amazon ECS said.
        instance_arn: returns this host's container instance; empty before the first registration.
    """

    async def zone() -> str:
        if settings.metadata_zone_hidden:
            return ""
        return settings.availability_zone or await store.get_meta(AVAILABILITY_ZONE) or ""

    address = partial(host_address.ipv4, settings.host_address)
    return HostNames(settings.cluster, owner, instance_arn, zone, address)


def metadata_files(settings: Settings, info: EngineInfo) -> FilePlace | None:
    """Return where metadata files of containers are; None where they get none."""
    if not settings.metadata_files:
        return None
    labels = any("selinux" in option for option in info.security_options)
    return FilePlace(settings.data_dir.absolute() / "metadata", selinux=labels)


async def find_callers(settings: Settings, places: Callable[[], Iterable[TaskPlace]]) -> Callers:
    """Return what tells which of the tasks at ``places`` sent a request; looks at the cgroup mount."""
    return Callers(
        places,
        await asyncio.to_thread(ContainerProcesses.open, settings.cgroup_path),
        Ends(agent_address.ADDRESS, (agent_address.PORT, TASK_PORT)),
    )


def audit_log(settings: Settings, control: Control, cleanup: contextlib.AsyncExitStack) -> AuditLog:
    """Return the audit log; its file, if there is one, is closed by ``cleanup``.

    Raises:
        ConfigError: the file cannot be opened.
    """
    write = None
    if settings.audit_log_file is not None and not settings.audit_log_disabled:
        file = logs.open_file(settings, settings.audit_log_file, "ECS_AUDIT_LOGFILE")
        cleanup.callback(file.close)
        audit_file = AuditFile(logs.file_writer(file))
        cleanup.callback(audit_file.close)
        write = audit_file.write
    return AuditLog(settings.cluster, lambda: control.status.instance_arn, write)


def loopback_servers(
    settings: Settings, sockets: HeldSockets, parts: LogParts, control: Control, tasks: TaskRequests
) -> list[LoopbackServer]:
    """Return the servers for tasks and for the engine's log driver, which sends logs for control."""
    relay = partial(
        LogRelay.open, spool=parts.spool, grants=parts.grants, make_stream=control.make_log_stream
    )
    serve = partial(
        TaskServer.open,
        routes=tasks.routes,
        callers=tasks.callers,
        rate=RequestRate(*settings.task_request_rate),
        refused=tasks.audit.refused,
        counts=tasks.counts,
    )
    return [
        LoopbackServer(
            sockets,
            held_sockets.TASKS,
            TASK_PORT,
            serve,
            loss="tasks get no credentials, and containers whose logs go to control or CloudWatch do "
            "not start; end the other process, such as Amazon's agent",
            host=agent_address.ADDRESS,
        ),
        LoopbackServer(
            sockets,
            held_sockets.LOGS,
            settings.log_relay_port,
            relay,
            loss="logs do not reach control; end the other process, or set ECS_LOG_RELAY_PORT",
        ),
    ]
