"""What a metric is about. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """The kinds of scopes; the numbers are stored."""

    CLUSTER = 1
    SERVICE = 2
    FAMILY = 3
    """All tasks of one task definition family."""
    TASK = 4
    INSTANCE = 5
    PROVIDER = 6
    """A capacity provider in a cluster."""


class Scope(NamedTuple):
    """One thing that has metrics; a value, and the key of its points."""

    kind: Kind
    cluster: str
    name: str = ""
    """Name of the service, family or capacity provider, id of the task or container instance; empty for a cluster."""
    detail: str = ""
    """The family of a task; the EC2 instance id of a container instance that has one."""


def cluster(name: str) -> Scope:
    """Return the scope of a cluster."""
    return Scope(Kind.CLUSTER, name)


def service(cluster_name: str, name: str) -> Scope:
    """Return the scope of a service: the tasks of the group ``service:NAME``."""
    return Scope(Kind.SERVICE, cluster_name, name)


def family(cluster_name: str, name: str) -> Scope:
    """Return the scope of the tasks of a family in a cluster."""
    return Scope(Kind.FAMILY, cluster_name, name)


def task(cluster_name: str, task_id: str, family_name: str) -> Scope:
    """Return the scope of one task."""
    return Scope(Kind.TASK, cluster_name, task_id, family_name)


def instance(cluster_name: str, instance_id: str, ec2_instance_id: str = "") -> Scope:
    """Return the scope of one container instance."""
    return Scope(Kind.INSTANCE, cluster_name, instance_id, ec2_instance_id)


def provider(cluster_name: str, name: str) -> Scope:
    """Return the scope of a capacity provider in a cluster."""
    return Scope(Kind.PROVIDER, cluster_name, name)
