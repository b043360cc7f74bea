"""Decides about the create request of a container, member by member. Pure.

Names of members count in any case, as for the engine. A member that no rule knows is refused unless
``other_settings`` allows it, so that what an engine learns tomorrow is not open today.

Source: Docker Engine API 1.40 to 1.47, ``POST /containers/create``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.config.host_policy import ANY, admits
from agent.host_policy import images, mounts, namespaces, security
from agent.host_policy.findings import (
    Refusal,
    Refusals,
    Unreadable,
    folded,
    number,
    shown,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.host_policy import HostPolicy
    from agent.host_policy.own import OwnParts, PolicyHost

_OF_CONFIG: Final = frozenset(
    [
        "argsescaped",
        "attachstderr",
        "attachstdin",
        "attachstdout",
        "cmd",
        "domainname",
        "entrypoint",
        "env",
        "exposedports",
        "healthcheck",
        "hostconfig",
        "hostname",
        "image",
        "labels",
        "macaddress",
        "networkdisabled",
        "onbuild",
        "openstdin",
        "shell",
        "stdinonce",
        "stopsignal",
        "stoptimeout",
        "tty",
        "user",
        "volumes",
        "workingdir",
    ]
)
"""Members of the request that concern the container alone, or have a rule here."""
_OF_HOST_CONFIG: Final = namespaces.MEMBERS | frozenset(
    [
        "autoremove",
        "binds",
        "blkiodevicereadbps",
        "blkiodevicereadiops",
        "blkiodevicewritebps",
        "blkiodevicewriteiops",
        "blkioweight",
        "blkioweightdevice",
        "capadd",
        "capdrop",
        "cgroupparent",
        "consolesize",
        "cpucount",
        "cpupercent",
        "cpuperiod",
        "cpuquota",
        "cpusetcpus",
        "cpusetmems",
        "cpushares",
        "devicecgrouprules",
        "devicerequests",
        "devices",
        "dns",
        "dnsoptions",
        "dnssearch",
        "extrahosts",
        "groupadd",
        "init",
        "iomaximumbandwidth",
        "iomaximumiops",
        "kernelmemory",
        "kernelmemorytcp",
        "links",
        "logconfig",
        "maskedpaths",
        "memory",
        "memoryreservation",
        "memoryswap",
        "memoryswappiness",
        "mounts",
        "nanocpus",
        "oomscoreadj",
        "pidslimit",
        "portbindings",
        "privileged",
        "publishallports",
        "readonlypaths",
        "readonlyrootfs",
        "restartpolicy",
        "runtime",
        "securityopt",
        "shmsize",
        "storageopt",
        "sysctls",
        "tmpfs",
        "ulimits",
        "volumedriver",
        "volumesfrom",
    ]
)
_FIRELENS: Final = "awsfirelens"
_ADDRESSES: Final = frozenset({"fluentd-address", "gelf-address", "syslog-address"})
"""Options of log drivers that may name a socket of the host, which the engine opens as root."""
_FILES: Final = frozenset(
    {"splunk-capath", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"}
)
"""Options of log drivers that name a file of the host, which the engine reads as root."""


def refusals(
    policy: HostPolicy,
    name: str,
    body: Mapping[str, Any],
    own: OwnParts,
    facts: PolicyHost,
    *,
    real: Mapping[str, str],
) -> Refusals:
    """Yield everything that is refused of a request; what cannot be read counts as refused.

    Args:
        policy: the rules.
        name: of the container.
        body: the request, with ``HostConfig``.
        own: what the agent has added to it.
        facts: what of the host matters.
        real: where paths lead (``resolving``).
    """
    try:
        config = folded(body, "the request")
        host = folded(config.get("hostconfig"), "HostConfig")
        yield from security.refusals(policy, name, config, host)
        yield from namespaces.refusals(policy, name, host, own)
        yield from mounts.refusals(policy, name, host, own, real=real, protected=facts.protected)
        yield from security.devices(policy, name, host, own, facts)
        yield from images.refusals(policy, name, _image(config, own))
        yield from _log(policy, name, host, own)
        yield from _labels(policy, name, config, own)
        yield from _others(policy, name, config, host, own)
    except Unreadable as error:
        if policy.guards_host:
            yield Refusal("other_settings", f"cannot be judged: {error}", name)


def _image(config: Mapping[str, Any], own: OwnParts) -> str:
    image = text(config.get("image"), "Image")
    return own.ordered_image if own.image and image == own.image else image


def _log(policy: HostPolicy, name: str, host: Mapping[str, Any], own: OwnParts) -> Refusals:
    if ANY in policy.log_drivers:
        return
    given = folded(host.get("logconfig"), "LogConfig")
    driver = _FIRELENS if own.routes_logs else text(given.get("type"), "the log driver")
    if driver and not admits(policy.log_drivers, driver):
        yield Refusal("log_drivers", f"has the log driver {shown(driver)}", name)
    if driver == _FIRELENS:
        return  # options of the router, a container of the task
    options = given.get("config") or {}
    if not isinstance(options, dict):
        raise Unreadable("options of the log driver are not an object")
    for key, value in options.items():
        is_socket = str(value).lstrip().casefold().startswith(("/", "unix"))
        if key in _FILES or (key in _ADDRESSES and is_socket):
            told = f"has the log option {shown(key)}, which names {shown(value)} of the host"
            yield Refusal("log_drivers", told, name)


def _labels(policy: HostPolicy, name: str, config: Mapping[str, Any], own: OwnParts) -> Refusals:
    labels = config.get("labels") or {}
    if not isinstance(labels, dict):
        raise Unreadable("Labels are not an object")
    for key, value in labels.items():
        if own.labels.get(key) != value and not admits(policy.docker_labels, key):
            yield Refusal("docker_labels", f"has the label {shown(key)}", name)


def _others(
    policy: HostPolicy,
    name: str,
    config: Mapping[str, Any],
    host: Mapping[str, Any],
    own: OwnParts,
) -> Refusals:
    if policy.other_settings:
        return
    for known, part in ((_OF_CONFIG, config), (_OF_HOST_CONFIG, host)):
        for member, value in part.items():
            if member not in known and value not in (None, False, "", 0, [], {}):
                yield Refusal("other_settings", f"has the setting {shown(member)}", name)
    parent = text(host.get("cgroupparent"), "CgroupParent")
    if parent and parent != own.cgroup_parent:
        yield Refusal("other_settings", f"has the control group {shown(parent)}", name)
    if number(host.get("oomscoreadj"), "OomScoreAdj") < 0:
        yield Refusal("other_settings", "is to be killed later than others (OomScoreAdj)", name)
