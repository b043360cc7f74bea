"""Names and ARNs: the format of each identifier and how one is derived from another.

The name of everything that the agent creates on a host derives from its task. After a crash, the
agent finds its objects by computing their names again.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

TaskArn = NewType("TaskArn", str)
InstanceArn = NewType("InstanceArn", str)

_NAME_LIMIT = 255
"""Longest file name in bytes: the engine keeps each volume in a directory of that name."""
_REVISION_LIMIT = 32
"""Far more digits than a revision of Amazon ECS has."""
_TASK_ID = re.compile(r"[0-9a-f]{32}")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]")


def task_id(arn: str) -> str:
    """Return the last path element of a task ARN, which names the task on its host."""
    return arn.rsplit("/", 1)[-1]


def region(arn: str) -> str:
    """Return the region in an ARN; empty if there is none."""
    parts = arn.split(":", 4)
    return parts[3] if len(parts) > 4 and parts[0] == "arn" else ""


def instance_id(arn: str) -> str:
    """Return the last path element of a container instance ARN."""
    return arn.rsplit("/", 1)[-1]


def cluster_name(cluster: str) -> str:
    """Return the bare name of a cluster given as a name or an ARN."""
    return cluster.rsplit("/", 1)[-1]


def task_cluster(arn: str, of_host: str) -> str:
    """Return the cluster of a task: that of its host, as it was given, unless the task is of another one.

    Args:
        arn: of the task.
        of_host: name or ARN of the host's cluster.
    """
    path = arn.partition(":task/")[2].split("/")
    named = path[0] if len(path) > 1 else ""
    return named if named and named != cluster_name(of_host) else of_host


def interface_id(attachment_id: str) -> str:
    """Return the id of a task's network interface, derived from its attachment id.

    The form is ``eni-<17 hex digits>``, as in EC2, by which clients recognize an interface.
    """
    return f"eni-{hashlib.sha256(attachment_id.encode()).hexdigest()[:17]}"


def container_engine_name(arn: str, family: str, revision: str, container: str) -> str:
    """Return the name of a container in the engine; the same inputs always give the same name.

    The form is ``ecs-<family>-<revision>-<container>-<20 hex digits>``, as on Amazon ECS. There the
    digits are random; here they derive from the task ARN, so that a container whose creation was
    interrupted is found after a crash.
    """
    return _engine_name(family, revision, container, container_digest(arn, container))


def container_digest(arn: str, container: str) -> str:
    """Return 20 hex digits that identify one container of one task globally."""
    return hashlib.sha256(f"{arn}\0{container}".encode()).hexdigest()[:20]


def cgroup_name(arn: str) -> str:
    """Return the name of a task's control group: its id, which is also fit for a unit of systemd.

    Anything that is not an id of 32 hex digits becomes a digest of the ARN.
    """
    own = task_id(arn)
    return own if _TASK_ID.fullmatch(own) else hashlib.sha256(arn.encode()).hexdigest()[:32]


def volume_engine_name(arn: str, family: str, revision: str, volume: str) -> str:
    """Return the name of a task-scoped volume in the engine, derived like a container's name."""
    digest = hashlib.sha256(f"{arn}\0volume\0{volume}".encode()).hexdigest()[:20]
    return _engine_name(family, revision, volume, digest)


def holder_engine_name(arn: str, family: str, revision: str) -> str:
    """Return the name in the engine of the container that holds a task's namespaces."""
    digest = hashlib.sha256(f"{arn}\0namespaces".encode()).hexdigest()[:20]
    return _engine_name(family, revision, "namespaces", digest)


def _engine_name(family: str, revision: str, part: str, digest: str) -> str:
    # The engine's API must be able to look the name up, or its object could never be removed.
    family, revision, part = (_UNSAFE.sub("", text) for text in (family, revision, part))
    # The digest makes the name unique, so the other parts can be cut.
    revision = revision[:_REVISION_LIMIT]
    room = _NAME_LIMIT - len(f"ecs---{revision}-{digest}")
    if len(family) + len(part) > room:
        family = family[: max(room - len(part), room // 2)]
        part = part[: room - len(family)]
    return f"ecs-{family}-{revision}-{part}-{digest}"
