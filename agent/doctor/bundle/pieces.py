"""The contents of the archive: one function per kind of piece, and the table of all pieces.

A piece is text. Functions may raise anything; ``archive`` notes it in place of the piece.
``redact`` removes secret values from every piece, so functions here need not. But they omit whole
fields that can contain anything (environments, labels, commands).
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from contextlib import closing
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agent.config import SecretText
from agent.config.addresses import without_password
from agent.config.settings import variables
from agent.doctor import reading
from agent.doctor.bundle.redact import REMOVED
from agent.doctor.bundle.secrets import file_name, shown_json, shown_settings, shown_unit
from agent.doctor.checks.service import UNIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.doctor.findings import Report
    from agent.doctor.host import HostFacts

_JOURNAL_LINES = 5000
_LOG_BYTES = 2 * 1024 * 1024
_OUR_LABELS = ("com.amazonaws.ecs.", "ecs-host-agent.")
_CONTAINER_FIELDS = ("Id", "Names", "Image", "ImageID", "Created", "State", "Status", "Ports")
_KERNEL_WORDS = (
    "oom|out of memory|killed process|veth|nvidia|nvrm|bridge|ecs|docker|overlay|ext4|xfs"
    "|i/o error|hung task|segfault|conntrack|neighbour"
)
_PACKAGES = [
    "amazon-ecs-init",
    "amazon-ssm-agent",
    "containerd",
    "containerd.io",
    "docker",
    "docker-ce",
    "docker.io",
    "ecs-host-agent",
    "ecs-agent",
    "firewalld",
    "iproute2",
    "iptables",
    "iptables-nft",
    "network-manager",
    "nftables",
    "NetworkManager",
    "nvidia-container-toolkit",
    "python3",
    "runc",
    "systemd",
    "ufw",
]
_TABLES = ("meta", "records", "outbox", "set_aside")


class Piece(NamedTuple):
    """One file of the archive."""

    name: str
    collect: Callable[[HostFacts], Awaitable[str]]
    limit_s: float = 15.0


def all_pieces(host: HostFacts, report: Report) -> list[Piece]:
    """Return every piece, most useful first: once the archive is full, the rest is cut."""

    async def doctor(_: HostFacts) -> str:
        return _json(report)

    return [
        Piece("doctor.json", doctor),
        Piece("settings/effective.json", _effective),
        *(Piece(f"settings/{file_name(path)}", _settings_file(path)) for path in host.files),
        *([Piece("settings/ecs.config.json", _settings_json)] if host.json_file else []),
        Piece("agent/agent.json", _agent("/v1/agent")),
        Piece("agent/tasks.json", _agent("/v1/tasks")),
        Piece("agent/state.json", _state),
        Piece("logs/ecs-agent.txt", _journal("ecs-agent"), 30.0),
        *([Piece("logs/ecs-agent-file.txt", _log_file)] if host.settings.log_file else []),
        Piece("logs/ecs-agent-control.txt", _journal("ecs-agent-control"), 30.0),
        Piece("logs/docker.txt", _journal("docker"), 30.0),
        Piece("logs/kernel.txt", _kernel_log),
        Piece("service/unit.txt", _unit("cat", UNIT)),
        Piece("service/properties.txt", _unit("show", UNIT)),
        Piece("service/docker.txt", _unit("show", "docker.service")),
        Piece("engine/version.json", _engine_version),
        Piece("engine/info.json", _engine_info),
        Piece("engine/containers.json", _containers),
        Piece("engine/networks.json", _networks),
        Piece("engine/daemon.json", _file("etc/docker/daemon.json")),
        Piece("network/addresses.json", _output("ip", "-j", "address")),
        Piece("network/links.json", _output("ip", "-j", "-d", "-s", "link")),
        Piece("network/routes.json", _output("ip", "-j", "route", "show", "table", "all")),
        Piece("network/rules.json", _output("ip", "-j", "rule")),
        Piece("network/neighbours.json", _output("ip", "-j", "neighbour")),
        Piece("network/firewall.txt", _firewall_table),
        Piece("network/iptables.txt", _iptables),
        Piece("network/listeners.txt", _output("ss", "-lntup")),
        Piece("network/resolv.conf", _file("etc/resolv.conf")),
        Piece("host/system.txt", _system),
        Piece("host/mounts.txt", _file("proc/self/mountinfo")),
        Piece("host/cgroups.txt", _cgroups),
        Piece("host/modules.txt", _file("proc/modules")),
        Piece("host/packages.txt", _packages),
    ]


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()


def _output(*command: str) -> Callable[[HostFacts], Awaitable[str]]:
    async def collect(_: HostFacts) -> str:
        return await _run(*command)

    return collect


def _unit(how: str, name: str) -> Callable[[HostFacts], Awaitable[str]]:
    async def collect(_: HostFacts) -> str:
        return shown_unit(await _run("systemctl", how, name))

    return collect


async def _run(*command: str, limit_s: float = 10.0) -> str:
    answer = await reading.program(*command, limit_s=limit_s)
    if answer.code == 0:
        return answer.out
    return f"{answer.out}\n[{command[0]}: {answer.trouble} (exit code {answer.code})]\n"


def _file(path: str) -> Callable[[HostFacts], Awaitable[str]]:
    async def collect(host: HostFacts) -> str:
        return await host.text(path)

    return collect


async def _effective(host: HostFacts) -> str:
    shown: dict[str, Any] = {}
    for field, variable in variables().items():
        value = getattr(host.settings, field)
        if isinstance(value, SecretText):
            value = REMOVED if value else ""
        elif variable.kind.holds_password:
            value = without_password(value)
        shown[variable.name] = value if isinstance(value, bool | int | float | None) else str(value)
    problems = list(host.problems)
    return _json({"settings": shown, "warnings": host.settings.warnings, "problems": problems})


def _settings_file(path: Path) -> Callable[[HostFacts], Awaitable[str]]:
    async def collect(_: HostFacts) -> str:
        text = await reading.blocking(lambda: path.read_text(encoding="utf-8", errors="replace"))
        return shown_settings(text, name=path.name)

    return collect


async def _settings_json(host: HostFacts) -> str:
    path = host.json_file
    return "" if path is None else shown_json(await reading.blocking(lambda: reading.text_of(path)))


def _agent(path: str) -> Callable[[HostFacts], Awaitable[str]]:
    async def collect(host: HostFacts) -> str:
        body = await reading.get(str(host.settings.socket_path), path, limit_s=10.0)
        return _json(msgspec.json.decode(body))

    return collect


async def _state(host: HostFacts) -> str:
    path = host.settings.data_dir / "agent.db"
    return _json(await reading.blocking(lambda: state_facts(path)))


def state_facts(path: Path) -> dict[str, Any]:
    """Return whether a state file is intact and how many rows it has; no content. Blocks.

    Opens it read-only: nothing is written, and the agent can keep writing.
    """
    if not path.exists():
        return {"path": str(path), "exists": False}
    facts: dict[str, Any] = {"path": str(path), "exists": True}
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            facts[f"bytes{suffix}"] = beside.stat().st_size
    # Without a log there is no concurrent writer, and reading must not create any files.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=5.0)) as database:
        facts["schema"] = database.execute("PRAGMA user_version").fetchone()[0]
        facts["integrity"] = [row[0] for row in database.execute("PRAGMA quick_check(10)")]
        for table in _TABLES:
            facts[table] = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
        kinds = database.execute("SELECT kind, count(*) FROM records GROUP BY kind")
        facts["kinds"] = dict(kinds.fetchall())
    return facts


def _journal(unit: str) -> Callable[[HostFacts], Awaitable[str]]:
    async def collect(_: HostFacts) -> str:
        lines = ("--lines", str(_JOURNAL_LINES), "--output", "short-iso-precise")
        return await _run("journalctl", "--unit", unit, "--no-pager", *lines, limit_s=25.0)

    return collect


async def _log_file(host: HostFacts) -> str:
    path = host.settings.log_file
    assert path is not None  # noqa: S101 - the piece is in the table only if it is set
    return await reading.blocking(lambda: _tail(path))


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
        return file.read(_LOG_BYTES).decode("utf-8", errors="replace")


async def _kernel_log(_: HostFacts) -> str:
    wanted = re.compile(_KERNEL_WORDS, re.IGNORECASE)
    lines = (await _run("dmesg")).splitlines()
    return "\n".join([line for line in lines if wanted.search(line)][-2000:])


async def _engine_version(host: HostFacts) -> str:
    engine = await host.engine()
    return _json(engine.version) if not engine.trouble else engine.trouble


async def _engine_info(host: HostFacts) -> str:
    engine = await host.engine()
    if engine.trouble:
        return engine.trouble
    labels = [str(label).partition("=")[0] for label in engine.info.get("Labels") or []]
    return _json({**engine.info, "Labels": labels})


async def _containers(host: HostFacts) -> str:
    raw = await reading.get(host.engine_socket, "/containers/json?all=1&limit=1000")
    return _json([container(row) for row in msgspec.json.decode(raw)])


def container(row: dict[str, Any]) -> dict[str, Any]:
    """Return the facts to show about a container: no command; foreign labels by name only. Pure."""
    labels = row.get("Labels") or {}
    shown = {name: row.get(name) for name in _CONTAINER_FIELDS}
    shown["NetworkMode"] = (row.get("HostConfig") or {}).get("NetworkMode")
    shown["Labels"] = {
        name: value if name.startswith(_OUR_LABELS) else REMOVED for name, value in labels.items()
    }
    shown["Mounts"] = [
        {name: mount.get(name) for name in ("Type", "Driver", "Destination", "RW")}
        for mount in row.get("Mounts") or []
    ]
    return shown


async def _networks(host: HostFacts) -> str:
    rows = msgspec.json.decode(await reading.get(host.engine_socket, "/networks"))
    kept = ("Name", "Id", "Driver", "Scope", "Internal", "EnableIPv6", "IPAM")
    return _json([{name: row.get(name) for name in kept} for row in rows])


async def _firewall_table(host: HostFacts) -> str:
    table = host.settings.firewall_table
    tables = [("inet", table), ("bridge", table)]
    tables += [("inet", f"{table}_{part}") for part in ("groups", "names")]
    ours = [await _run("nft", "list", "table", *each) for each in tables]
    return "\n".join([*ours, await _run("nft", "list", "chains")])


async def _iptables(_: HostFacts) -> str:
    rules = [await _run("iptables", "-w", "2", "-S", chain) for chain in ("FORWARD", "DOCKER-USER")]
    return "\n".join([await _run("iptables", "--version"), *rules])


async def _system(host: HostFacts) -> str:
    kernel = os.uname()
    parts = [
        f"{kernel.sysname} {kernel.release} {kernel.version} {kernel.machine}",
        f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}",
    ]
    paths = ("etc/os-release", "proc/uptime", "proc/loadavg", "proc/meminfo", "proc/cmdline")
    parts += [f"--- /{path}\n{await host.text(path)}" for path in paths]
    parts.append(f"--- df\n{await _run('df', '-hT')}\n--- df -i\n{await _run('df', '-i')}")
    return "\n".join(parts)


async def _cgroups(host: HostFacts) -> str:
    paths = ("proc/cgroups", "proc/self/cgroup", "sys/fs/cgroup/cgroup.controllers")
    return "\n".join([f"--- /{path}\n{await host.text(path)}" for path in paths])


async def _packages(_: HostFacts) -> str:
    # Ask both package managers; each reports only packages that it knows.
    debian = await reading.program(
        "dpkg-query", "-W", "-f", "${binary:Package} ${Version} ${db:Status-Status}\\n", *_PACKAGES
    )
    redhat = await reading.program("rpm", "-q", *_PACKAGES)
    ours = sorted(f"{d.name} {d.version}" for d in metadata.distributions())
    known = [line for line in redhat.out.splitlines() if "is not installed" not in line]
    return "\n".join(["--- system", debian.out, *known, "--- python", *ours])
