"""A second judge of create requests, written apart from the agent's: what a request gives a container.

It knows nothing of policies. It reads a request as Go's decoder does (names in any case, the last of two
wins) and lists the powers over the host that it gives, by the engine's documentation.
"""

from __future__ import annotations

import posixpath
from typing import Any

DEFAULT = frozenset(
    [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)


def go(value: Any) -> Any:
    """The value with lower-case names, of which the last wins."""
    if isinstance(value, dict):
        return {str(key).casefold(): go(each) for key, each in value.items()}
    return [go(each) for each in value] if isinstance(value, list) else value


def powers(  # noqa: C901, PLR0912 - a list of everything
    body: dict[str, Any], *, own: set[str]
) -> set[str]:
    """What a container made by this request can do to its host; ``own`` are names of the task's own."""
    top = go(body)
    host = top.get("hostconfig") or {}
    found = set()
    if host.get("privileged"):
        found.add("privileged")
    for member in ("networkmode", "pidmode", "ipcmode", "utsmode", "usernsmode", "cgroupnsmode"):
        mode = host.get(member) or ""
        kind, _, who = str(mode).partition(":")
        if kind == "host" or (kind == "container" and who not in own):
            found.add(f"{member} {mode}")
        elif member == "networkmode" and kind not in ("", "default", "none", "bridge", "container"):
            found.add(f"network {mode}")
    caps = {str(cap).upper().replace("CAP_", "") for cap in host.get("capadd") or ()}
    found |= {f"capability {cap}" for cap in caps - DEFAULT}
    found |= {f"option {opt}" for opt in host.get("securityopt") or () if "privileges" not in opt}
    for member in (
        "devices",
        "devicecgrouprules",
        "maskedpaths",
        "readonlypaths",
        "runtime",
        "cgroup",
    ):
        if host.get(member) or (member.endswith("paths") and host.get(member) is not None):
            found.add(member)
    for bind in host.get("binds") or ():
        found |= _mounts(str(bind).split(":")[0], own)
    for mount in host.get("mounts") or ():
        driver = ((mount.get("volumeoptions") or {}).get("driverconfig")) or {}
        options = driver.get("options") or {}
        if mount.get("type") == "bind":
            found |= {f"mounts {mount.get('source')}"}
        if options.get("type", "") not in ("", "tmpfs", "nfs", "nfs4") or "bind" in str(options):
            found.add(f"volume {options}")
        if driver.get("name") not in (None, "", "local"):
            found.add("plugin")
    for other in host.get("volumesfrom") or ():
        if str(other).split(":")[0] not in own:
            found.add(f"volumes of {other}")
    if host.get("cgroupparent") and host["cgroupparent"] not in own:
        found.add("cgroup")
    for name in host.get("sysctls") or {}:
        if not str(name).replace("/", ".").startswith("net.ipv4.tcp_keepalive"):
            found.add(f"sysctl {name}")
    return found


def _mounts(source: str, own: set[str]) -> set[str]:
    if not source.startswith("/") or posixpath.normpath(source) in own:
        return set()
    return {f"mounts {source}"}
