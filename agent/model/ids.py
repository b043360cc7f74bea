"""Names and ARNs: how each identifier looks and how one is derived from another.

Everything that the agent creates on a host is named from the task it belongs to, so that a crash
anywhere is healed by looking the name up again.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

TaskArn = NewType("TaskArn", str)
InstanceArn = NewType("InstanceArn", str)

_NAME_LIMIT = 255
"""Bytes of a file's name: the engine keeps a volume in a directory of its name."""
_REVISION_LIMIT = 32
"""Far more than a revision has that Amazon ECS counts."""
_UNSAFE = re.compile(r"[^A-Za-z0-9-]")


def task_id(arn: str) -> str:
    """Return the last path element of a task ARN, which names the task on its host."""
    return arn.rsplit("/", 1)[-1]


def instance_id(arn: str) -> str:
    """Return the last path element of a container instance ARN."""
    return arn.rsplit("/", 1)[-1]


def cluster_name(cluster: str) -> str:
    """Return the bare name of a cluster given as a name or an ARN."""
    return cluster.rsplit("/", 1)[-1]


def interface_id(attachment_id: str) -> str:
    """Return the id of a task's network interface, derived from that of its attachment.

    Shape ``eni-<17 hex digits>`` as EC2 gives, by which clients know an interface.
    """
    return f"eni-{hashlib.sha256(attachment_id.encode()).hexdigest()[:17]}"


def container_engine_name(arn: str, family: str, revision: str, container: str) -> str:
    """Return the name of a container in the engine; the same inputs give the same name for ever.

    Shape ``ecs-<family>-<revision>-<container>-<20 hex digits>`` as on Amazon ECS, where the digits
    are random; ours come from the task ARN, so that a half-made container is found after a crash.
    """
    return _engine_name(family, revision, container, container_digest(arn, container))


def container_digest(arn: str, container: str) -> str:
    """Return 20 hex digits that name a container of a task among all there ever are."""
    return hashlib.sha256(f"{arn}\0{container}".encode()).hexdigest()[:20]


def volume_engine_name(arn: str, family: str, revision: str, volume: str) -> str:
    """Return the name of a task-scoped volume in the engine; derived like a container's."""
    digest = hashlib.sha256(f"{arn}\0volume\0{volume}".encode()).hexdigest()[:20]
    return _engine_name(family, revision, volume, digest)


def _engine_name(family: str, revision: str, part: str, digest: str) -> str:
    # A name that the engine's API cannot even be asked about could never be cleaned up.
    family, revision, part = (_UNSAFE.sub("", text) for text in (family, revision, part))
    # The digest makes the name unique, so the words can be cut.
    revision = revision[:_REVISION_LIMIT]
    room = _NAME_LIMIT - len(f"ecs---{revision}-{digest}")
    if len(family) + len(part) > room:
        family = family[: max(room - len(part), room // 2)]
        part = part[: room - len(family)]
    return f"ecs-{family}-{revision}-{part}-{digest}"
