"""Privileges of a container in a create request: capabilities, devices, options, user, limits. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.config.host_policy import ANY, ENGINE_CAPABILITIES, admits
from agent.host_policy.findings import (
    Refusal,
    Refusals,
    folded,
    number,
    objects,
    shown,
    text,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.host_policy import HostPolicy
    from agent.host_policy.own import OwnParts, PolicyHost

ALL: Final = "ALL"
_NO_NEW_PRIVILEGES: Final = "no-new-privileges"
_USER: Final = re.compile(r"([0-9]{1,10})(?::[0-9]{1,10})?")
_WHOLE_DEVICES: Final = "devicecgrouprules"


def refusals(
    policy: HostPolicy, name: str, config: Mapping[str, Any], host: Mapping[str, Any]
) -> Refusals:
    """Yield what is refused of the privileges of a container; raises ``Unreadable``."""
    if host.get("privileged") not in (None, False) and not policy.privileged:
        yield Refusal("privileged", "asks for privileged mode", name)
    yield from _capabilities(policy, name, host)
    yield from _options(policy, name, host)
    user = text(config.get("user"), "User")
    number_of = _USER.fullmatch(user)
    if policy.non_root_user and (number_of is None or int(number_of[1]) == 0):
        told = f"has the user {shown(user)}" if user else "has no user of its own"
        yield Refusal("non_root_user", f"{told}, which is no number other than 0", name)
    if policy.read_only_root and host.get("readonlyrootfs") is not True:
        yield Refusal("read_only_root", "has a root file system that it can write to", name)
    for parameter in folded_sysctls(host):
        if not admits(policy.sysctls, parameter):
            yield Refusal("sysctls", f"sets the kernel parameter {shown(parameter)}", name)
    yield from _ulimits(policy, name, host)


def devices(
    policy: HostPolicy, name: str, host: Mapping[str, Any], own: OwnParts, facts: PolicyHost
) -> Refusals:
    """Yield what is refused of the devices and the runtime of a container; raises ``Unreadable``."""
    for device in objects(host.get("devices"), "Devices"):
        path = text(device.get("pathonhost"), "PathOnHost")
        if ".." in path.split("/") or not admits(policy.devices, path):
            yield Refusal("devices", f"asks for the device {shown(path)}", name)
    if texts(host.get(_WHOLE_DEVICES), "DeviceCgroupRules") and ANY not in policy.devices:
        yield Refusal("devices", "asks for devices by their numbers (DeviceCgroupRules)", name)
    for request in objects(host.get("devicerequests"), "DeviceRequests"):
        driver = text(request.get("driver"), "the driver of a device request")
        kinds = request.get("capabilities")
        is_gpu = driver in ("", "nvidia") and kinds == [["gpu"]]
        if is_gpu and not policy.gpus:
            yield Refusal("gpus", "asks for GPUs", name)
        elif not is_gpu and ANY not in policy.devices:
            yield Refusal("devices", f"asks for devices of the driver {shown(driver)}", name)
    runtime = text(host.get("runtime"), "Runtime")
    if own.gpus and not policy.gpus:
        yield Refusal("gpus", "asks for GPUs", name)
    is_own = own.gpus and runtime == facts.gpu_runtime
    if runtime and not is_own and not admits(policy.runtimes, runtime):
        yield Refusal("runtimes", f"asks for the runtime {shown(runtime)}", name)


def _capability(given: str) -> str:
    return given.upper().removeprefix("CAP_")


def _capabilities(policy: HostPolicy, name: str, host: Mapping[str, Any]) -> Refusals:
    added = {_capability(each) for each in texts(host.get("capadd"), "CapAdd")}
    dropped = {_capability(each) for each in texts(host.get("capdrop"), "CapDrop")}
    usual = frozenset() if ALL in policy.dropped_capabilities else ENGINE_CAPABILITIES
    for each in sorted(added):
        if each not in usual and not admits(policy.added_capabilities, each):
            yield Refusal("added_capabilities", f"adds the capability {shown(each)}", name)
    for each in policy.dropped_capabilities:
        if each not in dropped and ALL not in dropped:
            yield Refusal("dropped_capabilities", f"does not drop the capability {each}", name)


def _options(policy: HostPolicy, name: str, host: Mapping[str, Any]) -> Refusals:
    given = texts(host.get("securityopt"), "SecurityOpt")
    stays = False
    for option in given:
        # The engine takes both signs; the first of them ends the name.
        key, _, value = re.sub(r"^([^:=]*):", r"\1=", option).partition("=")
        if key == _NO_NEW_PRIVILEGES:
            stays = value in ("", "true")
        elif not admits(policy.security_options, f"{key}={value}" if value else key):
            yield Refusal("security_options", f"asks for {shown(option)}", name)
    if policy.no_new_privileges and not stays:
        yield Refusal("no_new_privileges", "has no security option no-new-privileges", name)
    for member in ("maskedpaths", "readonlypaths"):
        if host.get(member) is not None and not admits(
            policy.security_options, "systempaths=unconfined"
        ):
            told = f"says itself which paths of /proc are closed to it ({member})"
            yield Refusal("security_options", told, name)


def folded_sysctls(host: Mapping[str, Any]) -> list[str]:
    """Return the kernel parameters of a request, as the kernel names them; raises ``Unreadable``."""
    # The runtime takes a slash between the parts as well.
    return [name.replace("/", ".") for name in folded(host.get("sysctls"), "Sysctls")]


def _ulimits(policy: HostPolicy, name: str, host: Mapping[str, Any]) -> Refusals:
    most = dict(policy.max_ulimits)
    for limit in objects(host.get("ulimits"), "Ulimits"):
        kind = text(limit.get("name"), "the name of a ulimit")
        hard = number(limit.get("hard"), "Hard")
        soft = number(limit.get("soft"), "Soft")
        if kind in most and (min(hard, soft) < 0 or max(hard, soft) > most[kind]):
            told = (
                f"has the ulimit {kind} {max(hard, soft) if min(hard, soft) >= 0 else 'unlimited'}"
            )
            yield Refusal("max_ulimits", f"{told}, more than {most[kind]}", name)
