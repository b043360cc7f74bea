"""Which namespaces a create request shares. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.host_policy.findings import Refusal, Refusals, shown, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.host_policy import HostPolicy
    from agent.host_policy.own import OwnParts

_OWN_MODES: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "networkmode": ("network", frozenset({"", "default", "bridge", "none"})),
    "pidmode": ("pid", frozenset({""})),
    "ipcmode": ("ipc", frozenset({"", "none", "private", "shareable"})),
    "utsmode": ("uts", frozenset({""})),
    "usernsmode": ("user", frozenset({"", "private"})),
    "cgroupnsmode": ("cgroup", frozenset({"", "private"})),
}
"""By the member of ``HostConfig``: the namespace, and what gives the container one of its own."""
_OF_CONTAINER: Final = "container:"
MEMBERS: Final = frozenset(_OWN_MODES)


def refusals(policy: HostPolicy, name: str, host: Mapping[str, Any], own: OwnParts) -> Refusals:
    """Yield what is refused of the namespaces of a container; raises ``Unreadable``."""
    for member, (namespace, of_its_own) in _OWN_MODES.items():
        mode = text(host.get(member), member)
        if mode not in of_its_own and (told := _why_refused(policy, namespace, mode, own)):
            yield Refusal("host_namespaces", told, name)
    for link in texts(host.get("links"), "Links"):
        if link.partition(":")[0] not in own.containers and not policy.other_settings:
            told = f"links to the container {shown(link)}, which is not of its task"
            yield Refusal("other_settings", told, name)


def _why_refused(policy: HostPolicy, namespace: str, mode: str, own: OwnParts) -> str:
    """Return why a mode that is not of the container's own is refused; empty if it is not."""
    if mode.startswith(_OF_CONTAINER):
        other = mode.removeprefix(_OF_CONTAINER)
        if other in own.namespaces or not policy.guards_host:
            return ""
        told = f"joins the {namespace} namespace of the container {shown(other)}"
        return f"{told}, which is not of its task"
    # What shares a GPU is told where its pipes are mounted.
    if namespace in policy.host_namespaces or (own.mps_pipes and namespace == "ipc"):
        return ""
    if mode == "host":
        return f"shares the {namespace} namespace of the host"
    return f"has the {namespace} mode {shown(mode)}, which may be the host's"
