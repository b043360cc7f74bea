"""Whether a container has what its task definition asks for, by what the engine says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIB = 1024 * 1024
_NS_PER_S = 1_000_000_000
_DRIVERS = {"awsfirelens": "fluentd"}
"""What the engine is given for a driver that only ECS knows."""
_REGIONS = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION"})
"""Given to each container that names neither."""
_OF_EVERY_NAMESPACE = frozenset(
    {"lo", "tunl0", "sit0", "gre0", "gretap0", "ip6tnl0", "ip6gre0", "erspan0"}
)
"""Links that the kernel makes in each network namespace."""
_PERMISSIONS = {"read": "r", "write": "w", "mknod": "m"}

Parts = Iterator[tuple[str, object, object]]
"""What is compared: its name, what is asked for, what is there."""


def missing(
    definition: Mapping[str, Any], container: Mapping[str, Any], seen: Mapping[str, Any]
) -> list[str]:
    """Return what a container of a task asks for and does not have; empty if it has everything.

    Args:
        definition: the task definition, as registered.
        container: the container's definition.
        seen: ``docker inspect`` of the container.
    """
    mode = definition.get("networkMode") or "bridge"
    linux = container.get("linuxParameters") or {}
    parts = (
        *_config(container, seen["Config"], mode),
        *_limits(container, linux, seen["HostConfig"]),
        *_rights(container, linux, seen["HostConfig"]),
        *_network(container, seen, mode),
        *_mounts(definition, container, seen),
        *_task(definition, container, seen["HostConfig"]),
    )
    return [
        f"{what}: asked {asked!r}, is {found!r}" for what, asked, found in parts if asked != found
    ]


def _given(container: Mapping[str, Any], seen: Mapping[str, Any], **keys: str) -> Parts:
    """Compare members that the engine has under other names, as they are; what is empty is not asked."""
    for member, key in keys.items():
        if container.get(member):
            yield member, container[member], seen.get(key)


def _config(container: Mapping[str, Any], config: Mapping[str, Any], mode: str) -> Parts:
    yield from _given(
        container,
        config,
        image="Image",
        command="Cmd",
        entryPoint="Entrypoint",
        user="User",
        workingDirectory="WorkingDir",
        interactive="OpenStdin",
        pseudoTerminal="Tty",
    )
    if mode != "awsvpc":
        yield from _given(container, config, disableNetworking="NetworkDisabled")
        yield from _given(container, config, hostname="Hostname")
    environment = dict(entry.partition("=")[::2] for entry in config["Env"])
    own = {pair["name"] for pair in container.get("environment", ())}
    for pair in container.get("environment", ()):
        yield f"environment {pair['name']}", pair.get("value", ""), environment.get(pair["name"])
    for name in () if own & _REGIONS else sorted(_REGIONS):
        yield f"environment {name}", True, bool(environment.get(name))
    for name, value in container.get("dockerLabels", {}).items():
        yield f"label {name}", value, config["Labels"].get(name)
    check = container.get("healthCheck")
    if check:
        yield (
            "healthCheck",
            {
                "Test": _health_test(check["command"]),
                "Interval": check.get("interval", 30) * _NS_PER_S,
                "Timeout": check.get("timeout", 5) * _NS_PER_S,
                "Retries": check.get("retries", 3),
                "StartPeriod": check.get("startPeriod", 0) * _NS_PER_S,
            },
            {"StartPeriod": 0, **(config.get("Healthcheck") or {})},
        )


def _health_test(command: list[str]) -> list[str]:
    """Return the command with its kind in front, which a definition may leave out."""
    return command if command[0] in ("CMD", "CMD-SHELL", "NONE") else ["CMD", *command]


def _limits(
    container: Mapping[str, Any], linux: Mapping[str, Any], host: Mapping[str, Any]
) -> Parts:
    yield "cpu", max(container.get("cpu", 0), 2), host["CpuShares"]
    if container.get("memory"):
        yield "memory", container["memory"] * _MIB, host["Memory"]
    if container.get("memoryReservation"):
        yield "memoryReservation", container["memoryReservation"] * _MIB, host["MemoryReservation"]
    if linux.get("sharedMemorySize"):
        yield "sharedMemorySize", linux["sharedMemorySize"] * _MIB, host["ShmSize"]
    if linux.get("maxSwap") is not None and container.get("memory"):
        yield "maxSwap", (container["memory"] + linux["maxSwap"]) * _MIB, host["MemorySwap"]
    limits = {u["Name"]: (u["Soft"], u["Hard"]) for u in host["Ulimits"] or ()}
    for limit in container.get("ulimits", ()):
        asked = limit["softLimit"], limit["hardLimit"]
        yield f"ulimit {limit['name']}", asked, limits.get(limit["name"])
    for tmpfs in linux.get("tmpfs", ()):
        found = set((host["Tmpfs"] or {}).get(tmpfs["containerPath"], "").split(","))
        options = {*tmpfs.get("mountOptions", ()), f"size={tmpfs['size']}m"}
        yield f"tmpfs {tmpfs['containerPath']}", options, found


def _rights(
    container: Mapping[str, Any], linux: Mapping[str, Any], host: Mapping[str, Any]
) -> Parts:
    yield from _given(
        container,
        host,
        privileged="Privileged",
        readonlyRootFilesystem="ReadonlyRootfs",
        dockerSecurityOptions="SecurityOpt",
    )
    sysctls = host.get("Sysctls") or {}
    for control in container.get("systemControls", ()):
        name = control["namespace"]
        yield f"systemControls {name}", control["value"], sysctls.get(name)
    if linux.get("initProcessEnabled") is not None:
        yield "initProcessEnabled", linux["initProcessEnabled"], host["Init"]
    for member, key in (("add", "CapAdd"), ("drop", "CapDrop")):
        names = set(linux.get("capabilities", {}).get(member, ()))
        found = {name.removeprefix("CAP_") for name in host[key] or ()}
        yield f"capabilities.{member}", names, found & names
    devices = {d["PathInContainer"]: d for d in host["Devices"] or ()}
    for device in linux.get("devices", ()):
        made = devices.get(device.get("containerPath") or device["hostPath"], {})
        rights = "".join(_PERMISSIONS[p] for p in device.get("permissions", _PERMISSIONS))
        yield (
            f"device {device['hostPath']}",
            (device["hostPath"], rights),
            (made.get("PathOnHost"), made.get("CgroupPermissions")),
        )


def _network(container: Mapping[str, Any], seen: Mapping[str, Any], mode: str) -> Parts:
    host = seen["HostConfig"]
    if mode == "awsvpc":  # name servers are in a file of the container's own
        is_joined = host["NetworkMode"].startswith("container:")
        yield "disableNetworking", not container.get("disableNetworking"), is_joined
        return
    # A container that joined a ready sandbox has no setting of which the sandbox knows nothing.
    is_joined = host["NetworkMode"].startswith("container:")
    yield "networkMode", mode, mode if is_joined else host["NetworkMode"]
    yield from _given(container, host, dnsServers="Dns", dnsSearchDomains="DnsSearch")
    for extra in container.get("extraHosts", ()):
        entry = f"{extra['hostname']}:{extra['ipAddress']}"
        yield f"extraHosts {extra['hostname']}", True, entry in (host["ExtraHosts"] or ())
    aliases = {link.rpartition("/")[2] for link in host["Links"] or ()}
    for link in container.get("links", ()):
        yield f"link {link}", True, (link.partition(":")[2] or link) in aliases
    if mode == "bridge":
        yield from _ports(container, host["PortBindings"] or {})


def _ports(container: Mapping[str, Any], bindings: Mapping[str, Any]) -> Parts:
    for mapping in container.get("portMappings", ()):
        protocol = mapping.get("protocol", "tcp")
        first, _, last = mapping.get("containerPortRange", "").partition("-")
        ports = range(int(first), int(last) + 1) if first else (mapping["containerPort"],)
        for port in ports:
            found = {b["HostPort"] for b in bindings.get(f"{port}/{protocol}") or ()}
            yield f"port {port}/{protocol}", True, bool(found - {"", "0"})
            if mapping.get("hostPort"):
                yield f"host port of {port}/{protocol}", True, str(mapping["hostPort"]) in found


def _mounts(
    definition: Mapping[str, Any], container: Mapping[str, Any], seen: Mapping[str, Any]
) -> Parts:
    volumes = {volume["name"]: volume for volume in definition.get("volumes", ())}
    mounted = {mount["Destination"].rstrip("/"): mount for mount in seen["Mounts"]}
    for mount in container.get("mountPoints", ()):
        where = f"mount {mount['containerPath']}"
        found = mounted.get(mount["containerPath"].rstrip("/"))
        yield where, True, found is not None
        if found is not None:
            yield f"{where} is writable", not mount.get("readOnly", False), found["RW"]
            yield from _source(volumes[mount["sourceVolume"]], where, found)
    sources = [source.partition(":")[2] for source in seen["HostConfig"]["VolumesFrom"] or ()]
    asked = ["ro" if v.get("readOnly") else "" for v in container.get("volumesFrom", ())]
    yield "volumesFrom", asked, sources


def _source(volume: Mapping[str, Any], where: str, found: Mapping[str, Any]) -> Parts:
    path = (volume.get("host") or {}).get("sourcePath")
    if path:
        yield f"{where} from", ("bind", path), (found["Type"], found["Source"])
        return
    docker = volume.get("dockerVolumeConfiguration") or {}
    asked = "volume", docker.get("driver", "local")
    yield f"{where} is of", asked, (found["Type"], found.get("Driver"))
    if docker.get("scope") == "shared":
        yield f"{where} from", volume["name"], found["Name"]


def _task(
    definition: Mapping[str, Any], container: Mapping[str, Any], host: Mapping[str, Any]
) -> Parts:
    if definition.get("cpu") or definition.get("memory"):
        yield "the limits of the task", True, bool(host["CgroupParent"])
    for member, key in (("pidMode", "PidMode"), ("ipcMode", "IpcMode")):
        wanted = definition.get(member)
        if wanted == "task":
            yield member, True, host[key].startswith("container:")
        elif wanted:
            yield member, wanted, host[key]
    yield from _log(container, host["LogConfig"])


LOOK = ("hostname", "cat /etc/hosts", "cat /etc/resolv.conf", "cat /proc/net/dev")
"""Commands whose output ``missing_inside`` reads, with ``---`` between them."""


def _log(container: Mapping[str, Any], found: Mapping[str, Any]) -> Parts:
    log = container.get("logConfiguration")
    if not log:
        return
    asked = _DRIVERS.get(log["logDriver"], log["logDriver"])
    yield "logConfiguration", asked, found["Type"]
    if asked == "fluentd":
        return
    for name, value in (log.get("options") or {}).items():
        if name == "awslogs-stream-prefix":  # only ECS knows it: the engine is given the stream
            stream = found["Config"].get("awslogs-stream", "")
            begins = f"{value}/{container['name']}/"
            yield name, True, stream.startswith(begins)
        else:
            yield f"log option {name}", value, found["Config"].get(name)


def missing_inside(
    definition: Mapping[str, Any], container: Mapping[str, Any], output: str
) -> list[str]:
    """Return what a running container asks for and does not see itself.

    Args:
        definition: the task definition, as registered.
        container: the container's definition.
        output: of ``LOOK``, run in the container.
    """
    hostname, hosts, resolvers, devices = output.split("---\n")
    links = {line.partition(":")[0].strip() for line in devices.splitlines()[2:]}
    found = []
    if container.get("hostname") and hostname.strip() != container["hostname"]:
        found.append(f"hostname: is {hostname.strip()!r}")
    entries = [line.split() for line in hosts.splitlines()]
    found += [
        f"extraHosts {extra['hostname']}: not in /etc/hosts"
        for extra in container.get("extraHosts", ())
        if [extra["ipAddress"], extra["hostname"]] not in entries
    ]
    if container.get("disableNetworking"):
        return found + ([f"disableNetworking: has {links}"] if links - _OF_EVERY_NAMESPACE else [])
    settings = [line.split() for line in resolvers.splitlines()]
    found += [
        f"dnsServers {server}: resolv.conf is {resolvers!r}"
        for server in container.get("dnsServers", ())
        if ["nameserver", server] not in settings
    ]
    search = [word for words in settings if words[:1] == ["search"] for word in words[1:]]
    found += [
        f"dnsSearchDomains {domain}: resolv.conf is {resolvers!r}"
        for domain in container.get("dnsSearchDomains", ())
        if domain not in search
    ]
    if definition.get("networkMode") == "none" and links - _OF_EVERY_NAMESPACE:
        found.append(f"networkMode none: has {links}")
    return found
