"""The files of a task's log router: its configuration, and the directory of the socket that feeds it.

Containers that log with ``awsfirelens`` get the engine's driver ``fluentd`` with that socket. Everything is
made again from the order by each process, so that a restart of the agent loses nothing.

Source: Amazon ECS agent 1.105.1, ``taskresource/firelens``.
Tests: ``tests/unit/engine/preparations/test_firelens.py``, ``tests/integration/e2e/test_firelens.py``.
"""

from __future__ import annotations

import asyncio
import grp
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.engine.firelens import configuration, order
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.execution_role import ask_execution_role, execution_credentials
from agent.errors import AwsFailure, PayloadError
from agent.model import ids, reasons
from agent.model.resources import MIB
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from agent.engine.firelens.order import Firelens, S3Object
    from agent.engine.preparations.contract import HostAccess
    from agent.model.payload import Container, TaskPayload

FILE_LIMIT_S: Final = 30.0
FILE_BYTES: Final = 1024 * 1024
SOCKET_PATH_BYTES: Final = 107
"""Longest path of a Unix socket that the kernel takes."""
_ROUTER_FILE: Final = {
    order.FLUENTD: "/fluentd/etc/fluent.conf",
    order.FLUENT_BIT: "/fluent-bit/etc/fluent-bit.conf",
}
_RUN: Final = "/var/run/"
_LISTEN: Final = {NetworkMode.BRIDGE: "0.0.0.0", NetworkMode.AWSVPC: "127.0.0.1"}  # noqa: S104 - in the router


@dataclass(frozen=True, slots=True)
class FirelensSettings:
    """What routers are given of this host."""

    directory: Path = field(default_factory=lambda: Path("/var/lib/ecs/data/firelens"))
    """Has a directory for each task with a router."""
    cluster: str = "default"
    instance_id: str = ""
    """Of EC2; empty elsewhere."""
    is_async: bool = True
    """Containers start and write while the router is away."""
    async_option: str = "fluentd-async"
    """What the engine calls that; ``fluentd-async-connect`` before version 20.10."""


class FirelensPreparation:
    """FireLens; see ``contract.Preparation``."""

    name = "firelens"
    doing = "configure the log router"
    is_remote = False

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell whether a container routes logs, or logs to one that does."""
        return order.has_router(payload) or any(map(order.is_routed, payload.containers))

    def check(self, payload: TaskPayload) -> None:
        """Raise ``PayloadError`` for what no host can do."""
        order.check_routed(payload)
        firelens = order.read(payload)
        _owner(payload, firelens.router)
        if firelens.external is not None and payload.execution_role_credentials is None:
            raise _bad(payload, "the log router's configuration in S3 needs an execution role")

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Write the files, and make the directory of the socket."""
        firelens, settings = order.read(payload), access.firelens
        home = _home(payload, settings)
        external = b""
        if firelens.external is not None and not await asyncio.to_thread(_external(home).exists):
            external = await _fetched(payload, firelens.external, access)
        text = configuration.text(firelens, _router_host(payload, firelens, settings))
        owner = _owner(payload, firelens.router)
        try:
            await asyncio.to_thread(_write, home, text, external, owner)
        except OSError as error:
            raise _bad(payload, f"{home} cannot be written: {error.strerror}") from None
        return _provision(payload, firelens, home, settings)

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Remove the files."""
        home = access.firelens.directory / ids.task_id(payload.arn)
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)


def _provision(
    payload: TaskPayload, firelens: Firelens, home: Path, settings: FirelensSettings
) -> Provision:
    router = firelens.router.name
    binds = [
        f"{home}/config/fluent.conf:{_ROUTER_FILE[firelens.kind]}",
        f"{home}/socket/:{_RUN}",
    ]
    if firelens.external is not None:
        binds.append(f"{_external(home)}:{firelens.external_path}")
    environment = {router: {"FLUENT_UID": "0"}} if firelens.kind == order.FLUENTD else {}
    if payload.mode is NetworkMode.AWSVPC:
        here = {"FLUENT_HOST": "127.0.0.1", "FLUENT_PORT": str(configuration.PORT)}
        environment |= {routed.name: here for routed in firelens.routed}
    return Provision(
        binds={router: binds},
        environment=environment,
        log_configs={
            routed.name: {
                "Type": "fluentd",
                "Config": _driver_options(payload, routed, home, settings),
            }
            for routed in firelens.routed
        },
    )


def _driver_options(
    payload: TaskPayload, routed: order.Routed, home: Path, settings: FirelensSettings
) -> dict[str, str]:
    options = {
        "tag": f"{routed.name}-firelens-{ids.task_id(payload.arn)}",
        "fluentd-address": f"unix://{home}/socket/fluent.sock",
        "fluentd-sub-second-precision": "true",
        settings.async_option: str(settings.is_async).lower(),
    }
    limit = routed.options.get(order.BUFFER_LIMIT)
    return options | ({"fluentd-buffer-limit": limit} if limit else {})


def _router_host(
    payload: TaskPayload, firelens: Firelens, settings: FirelensSettings
) -> configuration.RouterHost:
    metadata = {
        "ecs_cluster": ids.task_cluster(payload.arn, settings.cluster),
        "ecs_task_arn": payload.arn,
        "ecs_task_definition": f"{payload.family}:{payload.version}",
    }
    on_ec2 = firelens.router.environment.get("AWS_EXECUTION_ENV") == "AWS_ECS_EC2"
    if settings.instance_id and on_ec2:
        metadata["ec2_instance_id"] = settings.instance_id
    return configuration.RouterHost(
        metadata=metadata,
        listen=_LISTEN.get(payload.mode, ""),
        memory_mib=_reservation_mib(firelens.router) or firelens.router.memory,
    )


def _reservation_mib(router: Container) -> int:
    value = _of_engine(router.docker_config.host_config, "MemoryReservation")
    return value // MIB if isinstance(value, int) else 0


def _of_engine(config: Any, name: str) -> Any:
    """Return a member of the order's engine configuration, which has keys in any case."""
    if not isinstance(config, dict):
        return None
    return next((v for key, v in config.items() if key.casefold() == name.casefold()), None)


def _owner(payload: TaskPayload, router: Container) -> tuple[int, int]:
    """Return user and group that the router runs as, by number; root where the order names none."""
    user = _of_engine(router.docker_config.config, "User")
    if not user:
        return 0, 0
    uid, _, group = str(user).partition(":")
    if not _is_number(uid) or not (not group or _is_number(group) or _group(group) is not None):
        raise _bad(payload, f"user {user!r} of the log router: write numbers, as 1000 or 1000:1000")
    gid = int(group) if _is_number(group) else _group(group) or 0
    return int(uid), gid


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError:
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _home(payload: TaskPayload, settings: FirelensSettings) -> Path:
    home = settings.directory / ids.task_id(payload.arn)
    if len(os.fsencode(home / "socket" / "fluent.sock")) > SOCKET_PATH_BYTES:
        raise _bad(
            payload,
            f"{home} is too long for a socket of {SOCKET_PATH_BYTES} bytes; set a shorter ECS_DATADIR",
        )
    return home


def _external(home: Path) -> Path:
    return home / "config" / "external.conf"


async def _fetched(payload: TaskPayload, file: S3Object, access: HostAccess) -> bytes:
    await execution_credentials(payload, access.credentials)
    role = ask_execution_role(payload, access.credentials)
    where = (
        f"unable to download the log router's configuration {file.key} from bucket {file.bucket}"
    )
    try:
        async with asyncio.timeout(FILE_LIMIT_S):
            return await access.aws.object(role, "", file.bucket, file.key, limit_bytes=FILE_BYTES)
    except AwsFailure as error:
        raise _bad(payload, f"{where}: {error}") from None
    except TimeoutError:
        raise _bad(payload, f"{where}: no answer within {FILE_LIMIT_S:g} s") from None


def _write(home: Path, text: str, external: bytes, owner: tuple[int, int]) -> None:
    """Make what is missing. What a router has mounted already is left as it is. Blocks."""
    for directory in (home, home / "config", home / "socket"):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory.chmod(0o755)
    os.chown(home / "socket", *owner)
    _write_file(home / "config" / "fluent.conf", text.encode())
    if external:
        _write_file(_external(home), external)


def _write_file(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.replace(path)


def _bad(payload: TaskPayload, cause: str) -> PayloadError:
    return PayloadError(reasons.resource_unusable(payload.arn, cause))
