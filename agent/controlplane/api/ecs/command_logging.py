"""``executeCommandConfiguration`` of clusters: whether and where output of commands is logged.

Output goes to log groups of control. Amazon S3 and keys of KMS are refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access, records
from agent.controlplane.front.errors import ClientException, InvalidParameterException
from agent.controlplane.log_store.contract import GroupMissing
from agent.controlplane.records import TaskDefinitionRecord
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Parts
    from agent.controlplane.records import ClusterRecord, TaskRecord

_PATH: Final = "configuration.executeCommandConfiguration"
_REFUSED: Final = {
    "s3BucketName": "output is logged to log groups of control alone; use cloudWatchLogGroupName",
    "s3KeyPrefix": "output is logged to log groups of control alone; leave it out",
    "s3EncryptionEnabled": "output is logged to log groups of control alone; leave it out",
    "cloudWatchEncryptionEnabled": "log groups of control are not encrypted; encrypt the disk of its host",
}


def check(configuration: Mapping[str, Any]) -> None:
    """Check the configuration of a cluster.

    Raises:
        ClientException: it asks for what is not done here.
        InvalidParameterException: OVERRIDE says no group.
    """
    asked: Mapping[str, Any] = configuration.get("executeCommandConfiguration") or {}
    if asked.get("kmsKeyId"):
        raise ClientException(
            f"'{_PATH}.kmsKeyId' is not supported: there are no keys of KMS here; give control a "
            "certificate, so that sessions are encrypted by TLS, and leave it out."
        )
    where: Mapping[str, Any] = asked.get("logConfiguration") or {}
    for member, note in _REFUSED.items():
        if where.get(member):
            raise ClientException(f"'{_PATH}.logConfiguration.{member}' is not supported: {note}.")
    if asked.get("logging") == "OVERRIDE" and not where.get("cloudWatchLogGroupName"):
        raise InvalidParameterException(
            "logConfiguration must be specified when logging is OVERRIDE: name a log group by "
            "cloudWatchLogGroupName."
        )


async def log_group(parts: Parts, cluster: ClusterRecord, task: TaskRecord, container: str) -> str:
    """Return the log group for the output of a command; empty if it is not logged.

    Raises:
        InvalidParameterException: output must be logged, and cannot be.
    """
    asked: Mapping[str, Any] = cluster.configuration.get("executeCommandConfiguration") or {}
    logging = asked.get("logging") or "DEFAULT"
    if logging == "NONE":
        return ""
    if logging == "OVERRIDE":
        name: str = (asked.get("logConfiguration") or {}).get("cloudWatchLogGroupName", "")
    else:
        name = await _of_container(parts, task, container) if parts.keeps_logs else ""
    if not name:
        return ""
    try:
        await parts.logs().group(name)
    except (GroupMissing, StoreFailure) as error:
        why = "it does not exist" if isinstance(error, GroupMissing) else str(error)
        raise InvalidParameterException(
            f"The execute command failed because its output cannot be logged to the log group "
            f"'{name}' that the cluster is configured with: {why}."
        ) from None
    return name


async def _of_container(parts: Parts, task: TaskRecord, container: str) -> str:
    """Return the group of a container with the driver ``awslogs``; empty for another."""
    key = records.task_definition_key(task.family, task.revision)
    found = await access.find(parts.store, TaskDefinitionRecord, key)
    definitions = found.record.definition["containerDefinitions"] if found is not None else []
    for one in definitions:
        logs = one.get("logConfiguration") or {}
        if one["name"] == container and logs.get("logDriver") == "awslogs":
            group: str = (logs.get("options") or {}).get("awslogs-group", "")
            return group
    return ""
