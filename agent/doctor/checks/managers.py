"""Network managers: whether one would manage the agent's links.

systemd-networkd configures every link with the first matching ``.network`` file. A catch-all for
the host's own cards also matches the links of tasks, which then lose their addresses and bridge.
"""

from __future__ import annotations

import fnmatch
import os
from typing import TYPE_CHECKING

import msgspec

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.config import Settings
    from agent.doctor.host import HostFacts

_NETWORKD_PLACES = ("etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network")
"""A file in an earlier directory hides files of the same name in later ones."""
_NM_RULES = "usr/lib/udev/rules.d/85-nm-unmanaged.rules"
_NM_PLACES = ("etc/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d")
_TASK_LINK = "ecs0acf0002"
_DOCKER_LINK = "veth1a2b3c4"
_ON_ITS_OWN = frozenset({"Name", "Type", "Kind", "Driver"})
"""Conditions that a virtual link can meet; any other condition selects a certain card."""
_FILE = "/etc/systemd/network/10-ecs-agent.network"


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link as managers see it."""

    name: str
    kind: str
    """``veth`` or ``bridge``, which is also the name of its driver."""


class Managers(msgspec.Struct, frozen=True, kw_only=True):
    """Which managers run, and their configuration."""

    active: frozenset[str] | None = frozenset()
    """None if systemd does not say."""
    networkd: dict[str, str] = {}
    """Text of each ``.network`` file by its name."""
    leaves_veth: bool = False
    """NetworkManager is configured to ignore links of containers."""
    firewalld_trusts: bool | None = False
    """None if firewalld does not say."""


async def check(host: HostFacts) -> list[Finding]:
    """Find out which managers run, and read their configuration."""
    active = await host.active_units("systemd-networkd", "NetworkManager", "firewalld")
    trusts: bool | None = False
    if active and "firewalld" in active:
        trusts = await _firewalld_trusts(host.settings.task_bridge)
    found = Managers(
        active=active,
        networkd=await reading.blocking(lambda: _network_files(host.root)),
        leaves_veth=await reading.blocking(lambda: _nm_leaves_veth(host.root)),
        firewalld_trusts=trusts,
    )
    return judge(host.settings, found)


async def _firewalld_trusts(bridge: str) -> bool | None:
    answer = await reading.program("firewall-cmd", "--get-zone-of-interface", bridge)
    if answer.code == 0:
        return answer.out.strip() == "trusted"
    return False if "no zone" in answer.err + answer.out else None


def _network_files(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for place in _NETWORKD_PLACES:
        for path in _listed(root / place, "*.network"):
            found.setdefault(path.name, reading.text_of(path))
    return found


def _nm_leaves_veth(root: Path) -> bool:
    if "veth" in reading.text_of(root / _NM_RULES):
        return True
    for place in _NM_PLACES:
        for path in _listed(root / place, "*.conf"):
            lines = reading.text_of(path).splitlines()
            if any("unmanaged-devices" in line and "veth" in line for line in lines):
                return True
    return False


def _listed(directory: Path, pattern: str) -> list[Path]:
    """Return the matching files of a directory, in order; none if there is no directory."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory))
    except OSError as error:
        reading.note_refusal(directory, error)
        return []
    return [directory / name for name in names if fnmatch.fnmatchcase(name, pattern)]


def judge(settings: Settings, found: Managers) -> list[Finding]:
    """Return the verdict on network managers. Pure."""
    verdict = FindingList("managers")
    if found.active is None:
        verdict.unknown(
            "which network managers run",
            "systemd does not answer",
            "ask it manually",
            "systemctl is-active systemd-networkd NetworkManager firewalld",
        )
        return verdict.findings
    if "systemd-networkd" in found.active:
        _judge_networkd(verdict, settings, found.networkd)
    if "NetworkManager" in found.active and not found.leaves_veth:
        verdict.warn(
            "NetworkManager runs and is not configured to ignore the links of tasks",
            "configure it to ignore them",
            "printf '[keyfile]\\nunmanaged-devices=interface-name:ecs*;interface-name:veth*\\n' > "
            "/etc/NetworkManager/conf.d/ecs-agent.conf && nmcli general reload",
        )
    if "firewalld" in found.active and found.firewalld_trusts is None:
        verdict.unknown(f"whether firewalld trusts {settings.task_bridge}", "it does not say")
    elif "firewalld" in found.active and not found.firewalld_trusts:
        verdict.warn(
            f"firewalld runs and does not trust {settings.task_bridge}: it refuses packets from "
            "tasks to this host and may drop forwarded packets",
            "add the bridge to its trusted zone",
            f"firewall-cmd --permanent --zone=trusted --add-interface={settings.task_bridge} && "
            "firewall-cmd --reload",
        )
    if not verdict.findings:
        names = " and ".join(sorted(found.active))
        verdict.ok(f"{names} ignores the links of tasks" if names else "none runs")
    return verdict.findings


def _judge_networkd(verdict: FindingList, settings: Settings, files: Mapping[str, str]) -> None:
    links = (
        Link(name=_TASK_LINK, kind="veth"),
        Link(name=settings.task_bridge, kind="bridge"),
        Link(name=_DOCKER_LINK, kind="veth"),
    )
    names = (file_for(link, files) for link in links)
    for name in sorted({name for name in names if name and not _leaves_alone(files[name])}):
        verdict.warn(
            f"systemd-networkd manages the links of tasks because of {name}: they lose their "
            "addresses when it restarts",
            f"restrict that file to your network cards, or add {_FILE} before it",
            f"printf '[Match]\\nName=ecs* veth* {settings.task_bridge}\\n[Link]\\nUnmanaged=yes\\n' "
            f"> {_FILE} && networkctl reload",
        )


def file_for(link: Link, files: Mapping[str, str]) -> str:
    """Return the ``.network`` file that systemd-networkd would use; empty for none. Pure."""
    for name in sorted(files):
        conditions = section(files[name], "Match")
        if conditions and _meets(link, conditions):
            return name
    return ""


def section(text: str, wanted: str) -> list[tuple[str, str]]:
    """Return names and values in one kind of section of a systemd file, in order. Pure."""
    found: list[tuple[str, str]] = []
    inside = False
    for line in text.splitlines():
        line = line.strip()  # noqa: PLW2901 - only the stripped line is used
        if line.startswith("["):
            inside = line == f"[{wanted}]"
        elif inside and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found.append((name.strip(), value.strip()))
    return found


def _meets(link: Link, conditions: Sequence[tuple[str, str]]) -> bool:
    seen = {"Name": link.name, "Type": "ether", "Kind": link.kind, "Driver": link.kind}
    if link.kind == "bridge":
        seen["Type"] = "bridge"
    return all(
        name in _ON_ITS_OWN and _matches(seen[name], value.split()) for name, value in conditions
    )


def _matches(text: str, patterns: Sequence[str]) -> bool:
    """Tell whether a text matches one of the patterns or, with a leading ``!``, none of them."""
    turned = bool(patterns) and patterns[0].startswith("!")
    plain = [pattern.removeprefix("!") for pattern in patterns]
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in plain) != turned


def _leaves_alone(text: str) -> bool:
    values = dict(section(text, "Link"))
    return values.get("Unmanaged", "").lower() in {"yes", "true", "on", "1", "y", "t"}
