"""Decides what a refused registration means: someone must fix something, or it may pass. Pure.

Source of the classes: Amazon ECS agent 1.105.1, ``agent/api/ecsclient`` and ``agent/app/agent.go``.

Tests: ``tests/unit/upstream/amazon/test_registration.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.aws.faults import STALE_KEYS
from agent.errors import AgentError, AwsRefused, ControlUnavailable, RegistrationRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TERMINAL: Final = frozenset({"InvalidParameterException", "ClientException"})
_DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied"})
_TYPE_CHANGED: Final = "Container instance type changes are not supported."
_CLUSTER_MISSING: Final = "Cluster not found."
_CLUSTER_INACTIVE: Final = re.compile(r"\bcluster\b[^.]*\binactive\b", re.IGNORECASE)
_GONE: Final = re.compile(r"\b(inactive|deregistered|not (active|found|known))\b", re.IGNORECASE)


def judge(
    error: AwsRefused, *, cluster: str, instance_arn: str, state: Path, unproven: bool
) -> AgentError:
    """Return the error to raise for a refused RegisterContainerInstance.

    Args:
        error: the answer of AWS.
        cluster: name or ARN of the requested cluster.
        instance_arn: the instance that this host was before; empty if it asked for a new one.
        state: the state file.
        unproven: the identity document was not available now, so that the refusal says nothing
            about the host.

    Returns:
        ``RegistrationRefused`` if someone must act; ``ControlUnavailable`` if waiting may help, for
        example for a cluster or a permission that is created later.
    """
    said = str(error).rstrip(". ")
    if _TYPE_CHANGED in str(error):
        return RegistrationRefused(
            f"{said}; change the EC2 instance back to its former type, or deregister {instance_arn}"
            f" and {start_anew(state)}"
        )
    if mend := _later(error, cluster):
        return ControlUnavailable(f"{said}; {mend}")
    if error.code not in TERMINAL:
        return ControlUnavailable(said)
    if unproven:
        return ControlUnavailable(f"{said}; instance metadata has no identity document to send")
    if instance_arn and _GONE.search(str(error)):
        return RegistrationRefused(
            f"{said}; {instance_arn} was deregistered or is of another control, which is final:"
            f" {start_anew(state)}"
        )
    if instance_arn:
        return RegistrationRefused(
            f"{said}; correct the settings that it names, or, if {instance_arn} no longer exists,"
            f" {start_anew(state)}"
        )
    return RegistrationRefused(f"{said}; correct the settings that it names")


def _later(error: AwsRefused, cluster: str) -> str:
    """Return the fix for a refusal that needs no restart; empty for others."""
    if is_cluster_missing(error) or (
        error.code in TERMINAL and _CLUSTER_INACTIVE.search(str(error))
    ):
        return (
            f"create the cluster {cluster!r}, or set ECS_CLUSTER to one that exists in this region"
            " and account"
        )
    if error.code in _DENIED:
        return (
            "allow ecs:RegisterContainerInstance for the role in use, for example with the policy"
            " AmazonEC2ContainerServiceforEC2Role"
        )
    if error.code in STALE_KEYS:
        return "check the keys and the region"
    return ""


def is_cluster_missing(error: AwsRefused) -> bool:
    """Return whether AWS says that the cluster does not exist."""
    return error.code == "ClusterNotFoundException" or _CLUSTER_MISSING in str(error)


def attributes_not_kept(names: Iterable[str], returned: Mapping[str, str]) -> RegistrationRefused:
    """Return the error for attributes that Amazon ECS keeps with other values than were sent."""
    listed = ", ".join(f"{name} ({returned.get(name) or 'absent'})" for name in list(names)[:10])
    return RegistrationRefused(
        "RegisterContainerInstance: Amazon ECS has other values of these attributes than this host"
        f" sent: {listed}; correct ECS_INSTANCE_ATTRIBUTES, or, if the host itself has changed,"
        " deregister the instance and register again"
    )


def start_anew(state: Path) -> str:
    """Return, in words, how to register a host as a new container instance."""
    return (
        f"stop the agent, remove {state} and start it again to register as a new container"
        " instance (its tasks are then forgotten)"
    )
