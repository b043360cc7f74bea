"""The container engine: present, recent enough, and set up so that tasks survive its restart."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.errors import BAD_JSON, RuntimeFailure
from agent.runtime.docker import DockerEngine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.doctor.host import EngineFacts, HostFacts

_OLDEST = (20, 10)
_DAEMON_JSON = "etc/docker/daemon.json"
_GOOD_STORAGE = frozenset({"overlay2", "overlayfs", "btrfs", "zfs", "fuse-overlayfs"})
_GROWS = frozenset({"json-file"})
"""Log drivers that keep everything by default."""
_LOG_ALIASES = frozenset({"awsfirelens", "none"})
"""Log drivers that no engine lists, because they use another driver or none."""


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the engine from other sources than the engine."""

    socket_mode: int = 0
    """0 if the socket was not found."""
    daemon_json: str = ""
    """Text of its settings file; empty if there is none."""
    installed: bool = False
    wanted_log_drivers: tuple[str, ...] = ()
    wanted_security: tuple[str, ...] = ()
    """``apparmor``, ``selinux`` if the settings offer them to tasks."""
    misunderstanding: str = ""
    """Why the agent's own client cannot talk to it; empty if it can, or was not tried."""


async def check(host: HostFacts) -> list[Finding]:
    """Ask the engine, and read its settings file."""
    mode = await reading.blocking(lambda: _mode(host.engine_socket))
    around = Around(
        socket_mode=mode,
        daemon_json=await host.text(_DAEMON_JSON),
        installed=not (await reading.program("dockerd", "--version")).missing,
        wanted_log_drivers=host.settings.available_logging_drivers,
        wanted_security=tuple(
            name
            for name, wanted in (
                ("apparmor", host.settings.apparmor),
                ("selinux", host.settings.selinux),
            )
            if wanted
        ),
    )
    engine = await host.engine()
    if not engine.trouble:
        trouble = await _misunderstanding(host.settings.docker_host)
        around = msgspec.structs.replace(around, misunderstanding=trouble)
    return judge(engine, around)


async def _misunderstanding(docker_host: str) -> str:
    """Connect like the agent, which negotiates an API version; return why that failed."""
    client = DockerEngine(docker_host)
    try:
        await client.connect()
    except RuntimeFailure as error:
        return str(error)
    finally:
        await client.close()
    return ""


def _mode(path: str) -> int:
    with contextlib.suppress(OSError):
        return stat.S_IMODE(Path(path).stat().st_mode)
    return 0


def judge(engine: EngineFacts, around: Around) -> list[Finding]:
    """Return the verdict on the engine. Pure."""
    verdict = FindingList("docker")
    if engine.trouble:
        _judge_absence(verdict, engine, around)
        return verdict.findings
    _judge_version(verdict, engine)
    if around.misunderstanding:
        verdict.error(
            f"the agent cannot talk to this engine: {around.misunderstanding}",
            "update Docker or the agent, whichever is older",
        )
    _judge_kind(verdict, engine.info, around)
    _judge_restart(verdict, engine.info)
    _judge_storage(verdict, engine.info)
    _judge_logs(verdict, engine.info, around)
    _judge_access(verdict, engine.info, around)
    return verdict.findings


def version_of(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version; zeros if there are none."""
    numbers = text.split(".")[:2]
    if len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return int(numbers[0]), int(numbers[1])
    return 0, 0


def _judge_absence(verdict: FindingList, engine: EngineFacts, around: Around) -> None:
    if engine.refused == "forbidden":
        verdict.error(f"{engine.trouble}", "run it as root", "sudo ecs-agent doctor")
    elif engine.refused == "missing" and not around.installed:
        verdict.error(
            f"{engine.trouble}, and Docker is not installed",
            "install Docker Engine 20.10 or newer",
            "apt-get install docker.io || dnf install docker",
        )
    elif engine.refused:
        verdict.error(
            f"{engine.trouble}: Docker does not run, or uses another socket",
            "start it, or set DOCKER_HOST to its unix:// address",
            "systemctl enable --now docker",
        )
    else:
        verdict.error(
            engine.trouble,
            "look at its log; a restart with live-restore does not affect tasks",
            "journalctl -u docker -n 50",
        )


def _judge_version(verdict: FindingList, engine: EngineFacts) -> None:
    version, api = str(engine.version.get("Version", "")), engine.version.get("ApiVersion", "?")
    components = engine.version.get("Components") or []
    if any("podman" in str(part.get("Name", "")).lower() for part in components):
        verdict.error(
            f"this is Podman {version} instead of Docker, which is not supported",
            "install Docker Engine, and set DOCKER_HOST to its socket",
        )
    elif (0, 0) < version_of(version) < _OLDEST:
        verdict.error(
            f"Docker {version} is older than 20.10, the oldest supported version",
            "update Docker; with live-restore, tasks keep running",
        )
    else:
        verdict.ok(f"Docker {version}, API {api}")


def _judge_kind(verdict: FindingList, info: Mapping[str, Any], around: Around) -> None:
    options = " ".join(map(str, info.get("SecurityOptions") or []))
    for name in around.wanted_security:
        if f"name={name}" not in options:
            verdict.warn(
                f"ECS_{name.upper()}_CAPABLE offers {name} to tasks, but the engine does not use it",
                f"remove the setting, or turn on {name} in the kernel and in Docker",
            )
    if "name=rootless" in options:
        verdict.error(
            "the engine runs as a user (rootless): it can neither enforce limits nor join networks",
            "run the engine as root",
        )
    if "name=userns" in options:
        verdict.warn(
            "the engine maps users (userns-remap): it refuses tasks in host mode and privileged "
            "containers",
            'remove "userns-remap" from /etc/docker/daemon.json if tasks need them',
        )
    if str(info.get("DockerRootDir", "")).startswith("/var/snap/"):
        verdict.warn(
            "this is Docker from a snap: it can access only some directories, so bind mounts fail",
            "install Docker from the distribution or from Docker's own packages",
        )


def _judge_restart(verdict: FindingList, info: Mapping[str, Any]) -> None:
    if info.get("LiveRestoreEnabled"):
        verdict.ok("live-restore is on: tasks survive a restart of Docker")
    elif (info.get("Swarm") or {}).get("LocalNodeState") == "active":
        verdict.warn(
            "live-restore is off and not possible in a Swarm: a restart of Docker stops every task",
            "leave the Swarm, then turn live-restore on",
            "docker swarm leave",
        )
    else:
        verdict.warn(
            "live-restore is off: a restart or an update of Docker stops every task",
            'put "live-restore": true into /etc/docker/daemon.json and reload Docker; '
            "a reload does not stop tasks",
            "systemctl reload docker",
        )


def _judge_storage(verdict: FindingList, info: Mapping[str, Any]) -> None:
    driver = str(info.get("Driver", ""))
    status = {str(row[0]): str(row[1]) for row in info.get("DriverStatus") or [] if len(row) == 2}
    if status.get("Supports d_type") == "false":
        verdict.error(
            f"the file system below Docker's {driver} has no d_type: containers see broken files",
            "create it again with mkfs.xfs -n ftype=1, or use ext4",
        )
    elif driver in _GOOD_STORAGE or driver.startswith("io.containerd."):
        below = status.get("Backing Filesystem", "")
        verdict.ok(f"storage driver {driver}{f' on {below}' if below else ''}")
    else:
        verdict.warn(
            f"storage driver {driver}: slow, and each container needs much space",
            'while no task runs, put "storage-driver": "overlay2" into /etc/docker/daemon.json '
            "and restart Docker (images are pulled again)",
            "systemctl restart docker",
        )


def _judge_logs(verdict: FindingList, info: Mapping[str, Any], around: Around) -> None:
    driver = str(info.get("LoggingDriver", ""))
    if driver in _GROWS and not _limits_logs(around.daemon_json):
        verdict.warn(
            f"the log driver {driver} has no size limit: a chatty container fills the disk",
            'put "log-driver": "local", or "log-opts": {"max-size": "10m", "max-file": "3"}, into '
            "/etc/docker/daemon.json and restart Docker; it applies to new containers",
            "systemctl restart docker",
        )
    elif driver:
        verdict.ok(f"log driver {driver}")
    missing = missing_log_drivers(info, around.wanted_log_drivers)
    if missing:
        verdict.warn(
            f"ECS_AVAILABLE_LOGGING_DRIVERS offers {', '.join(missing)}, which this engine does "
            "not have: tasks that need it are placed here and fail",
            "remove it from ECS_AVAILABLE_LOGGING_DRIVERS, or install the engine's plugin",
        )


def missing_log_drivers(info: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """Return the log drivers that are offered to tasks but missing in the engine."""
    known = (info.get("Plugins") or {}).get("Log")
    if not known:
        return []
    return [name for name in wanted if name not in known and name not in _LOG_ALIASES]


def _limits_logs(daemon_json: str) -> bool:
    """Tell whether the engine's settings limit the size of logs."""
    try:
        options = msgspec.json.decode(daemon_json or "{}").get("log-opts") or {}
        return bool(options.get("max-size"))
    except (*BAD_JSON, AttributeError):
        return False


def _judge_access(verdict: FindingList, info: Mapping[str, Any], around: Around) -> None:
    if around.daemon_json.strip():
        try:
            msgspec.json.decode(around.daemon_json)
        except BAD_JSON as error:
            verdict.error(
                f"/etc/docker/daemon.json is not valid JSON ({error}): Docker will not start again",
                "fix the file before Docker restarts",
                "dockerd --validate",
            )
    if around.socket_mode & 0o006:
        verdict.warn(
            f"Docker's socket has mode {around.socket_mode:04o}: every user can become root",
            "restrict it to its group",
            "chmod o-rwx /var/run/docker.sock",
        )
    for line in info.get("Warnings") or []:
        text = str(line).removeprefix("WARNING: ").strip(" .\n")
        if "without encryption" in text or "insecure" in text.lower():
            verdict.warn(
                f"the engine says: {text[:300]}",
                'remove the tcp:// address from its "hosts", or set up TLS for it',
            )
