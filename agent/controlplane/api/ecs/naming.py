"""Identifiers in requests: clusters, instances and tasks by short name, id or ARN.

Source of the rules and error texts: the Amazon ECS API reference and responses of the service.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.front.errors import ClusterNotFoundException, InvalidParameterException
from agent.controlplane.names import parse_arn
from agent.controlplane.records import ClusterRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Parts

DEFAULT_CLUSTER = "default"
DESCRIBE_LIMIT = 100
"""Maximum number of items in one Describe call."""

_CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ID = re.compile(r"[A-Za-z0-9-]{1,255}")
_ID_LENGTHS = (32, 36)
"""Length of current ids, and of older ids, which were UUIDs."""
_ID_NAMES = {"task": "taskId", "container-instance": "instanceId"}


def cluster_name(text: str | None) -> str:
    """Return the short name of a cluster given by name or ARN; ``default`` if nothing is given.

    Raises:
        InvalidParameterException: the text is neither.
    """
    if not text:
        return DEFAULT_CLUSTER
    name = text
    if text.startswith("arn:"):
        arn = parse_arn(text)
        if arn is None or arn.kind != "cluster" or len(arn.path) != 1:
            raise InvalidParameterException(
                f"Invalid identifier: {text[:255]} is not a cluster ARN."
            )
        name = arn.id
    if not _CLUSTER_NAME.fullmatch(name):
        raise InvalidParameterException(
            "Invalid cluster name: only letters, numbers, hyphens and underscores are allowed, "
            "and at most 255 of them."
        )
    return name


async def active_cluster(parts: Parts, request: Mapping[str, Any]) -> ClusterRecord:
    """Return the cluster that ``request["cluster"]`` names.

    Raises:
        ClusterNotFoundException: it does not exist or was deleted.
    """
    given = request.get("cluster")
    name = cluster_name(given)
    found = await access.find(parts.store, ClusterRecord, records.cluster_key(name))
    if found is None or found.record.status != "ACTIVE" or not names_it(given, found.record.arn):
        raise ClusterNotFoundException
    return found.record


def names_it(given: str | None, arn: str) -> bool:
    """Return whether the identifier from a client can mean the resource with this ARN.

    A short name always does. An ARN must be identical, so that an ARN of another region or account
    never affects a resource here that has the same name.
    """
    return not (given or "").startswith("arn:") or given == arn


def resource_id(names: Names, text: str, kind: str, cluster: str) -> str:
    """Return the id of a task or a container instance given as id or ARN.

    Args:
        names: of this control endpoint; an ARN of another account or region is refused.
        text: as given by the client.
        kind: ``task`` or ``container-instance``.
        cluster: name of the cluster it must be in. An ARN in the old, short format has no cluster.

    Raises:
        InvalidParameterException: it is malformed, or of another kind, cluster, account or region.
    """
    if not text.startswith("arn:"):
        if len(text) not in _ID_LENGTHS:
            raise InvalidParameterException(
                f"{_ID_NAMES[kind]} length should be one of "
                f"[{','.join(str(length) for length in _ID_LENGTHS)}]"
            )
        if not _ID.fullmatch(text):
            raise InvalidParameterException(f"Invalid id: {text}")
        return text
    arn = parse_arn(text)
    if arn is None or arn.kind != kind or len(arn.path) > 2 or not _ID.fullmatch(arn.id):
        raise InvalidParameterException(
            f"Invalid identifier: {text[:255]} is not the ARN of a {kind}"
        )
    if not names.owns(arn):
        raise InvalidParameterException(
            f"Invalid identifier: Identifier is for account {arn.account} in {arn.region}. Your "
            f"account is {names.account} in {names.region}"
        )
    if len(arn.path) == 2 and arn.path[0] != cluster:
        raise InvalidParameterException(
            f"Invalid identifier: Identifier is for {arn.path[0]}. Your cluster is {cluster}"
        )
    return arn.id


def service_name(names: Names, text: str, cluster: str) -> str:
    """Return the name of a service given as name or ARN.

    Args:
        names: of this control endpoint; an ARN of another account or region is refused.
        text: as given by the client.
        cluster: name of the cluster it must be in. An ARN in the old, short format has no cluster.

    Raises:
        InvalidParameterException: it is malformed, or of another cluster, account or region.
    """
    name = text
    if text.startswith("arn:"):
        arn = parse_arn(text)
        if arn is None or arn.kind != "service" or len(arn.path) > 2 or not names.owns(arn):
            raise InvalidParameterException(
                f"Invalid identifier: {text[:255]} is not the ARN of a service here."
            )
        if len(arn.path) == 2 and arn.path[0] != cluster:
            raise InvalidParameterException(
                f"Invalid identifier: Identifier is for {arn.path[0]}. Your cluster is {cluster}"
            )
        name = arn.id
    if not _CLUSTER_NAME.fullmatch(name):
        raise InvalidParameterException(
            "Invalid service name: only letters, numbers, hyphens and underscores are allowed, and "
            "at most 255 of them."
        )
    return name


def at_most(items: Sequence[Any], limit: int, name: str) -> None:
    """Raise ``InvalidParameterException`` if a list is longer than the service allows."""
    if len(items) > limit:
        raise InvalidParameterException(f"{name} can have at most {limit} items.")
