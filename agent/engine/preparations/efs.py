"""How an EFS volume is mounted: as NFS 4.1 by the engine, or by Amazon's volume plugin. Pure.

Source: Amazon ECS agent 1.105.1, ``taskresource/volume``. There are two differences. Another NFS
server can stand for a file system (``ECS_EFS_SERVERS``). Features that a plain NFS mount lacks
(encryption in transit, IAM, access points) are refused, not ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.config.nfs_servers import NfsExport, find_export

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.payload import TaskPayload

EFS_AUTH = "efsAuth"
"""Name of TLS and IAM for EFS in ``ECS_VOLUME_PLUGIN_CAPABILITIES``."""
PLUGIN = "amazon-ecs-volume-plugin"
MOUNT_OPTIONS = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
"""As Amazon recommends for EFS."""
_DNS_SUFFIXES = {
    "aws": "amazonaws.com",
    "aws-us-gov": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
}
"""By the partition of the task's ARN; other partitions have names for EFS, too, but not without
TLS."""


@dataclass(frozen=True, slots=True)
class EfsSettings:
    """How this host reaches EFS file systems."""

    servers: Mapping[str, NfsExport] = field(default_factory=dict)
    """``ECS_EFS_SERVERS``."""
    trusted: bool = False
    """``ECS_EFS_SERVERS_TRUSTED``: those servers need neither TLS nor IAM."""
    plugin: bool = False
    """``ECS_VOLUME_PLUGIN_CAPABILITIES`` has ``efsAuth``."""


@dataclass(frozen=True, slots=True)
class EfsMount:
    """Driver and options of the engine's volume."""

    driver: str
    options: dict[str, str]


class EfsUnusable(Exception):
    """An EFS volume cannot be mounted on this host; the text has the cause and the fix."""


def efs_mount(
    payload: TaskPayload, name: str, given: Mapping[str, Any], host: EfsSettings
) -> EfsMount:
    """Return how one EFS volume is mounted.

    Args:
        payload: its task.
        name: the volume's name, for errors.
        given: ``efsVolumeConfiguration``.
        host: how this host reaches EFS.

    Raises:
        EfsUnusable: this host cannot mount it as requested.
    """
    file_system = str(given.get("fileSystemId") or "")
    if not file_system:
        raise EfsUnusable(f"volume {name} has no fileSystemId")
    authorization = given.get("authorizationConfig") or {}
    access_point = str(authorization.get("accessPointId") or "")
    guarded = _guarded(given, authorization)
    root = _root(name, given)
    export = find_export(dict(host.servers), file_system, access_point)
    if export is not None:
        if guarded and not host.trusted:
            raise EfsUnusable(
                f"volume {name} requires {guarded}, which {export.server} does not provide; set "
                "ECS_EFS_SERVERS_TRUSTED=true on this host if the network to that server is safe"
            )
        return _nfs(export.server, export.path + root)
    if host.plugin:
        return _by_plugin(payload, name, given, root)
    if guarded or access_point:
        raise EfsUnusable(
            f"volume {name} requires {guarded or 'an access point'}, which needs Amazon's volume "
            f"plugin, or an entry for {file_system}{'/' if access_point else ''}{access_point} in "
            "ECS_EFS_SERVERS of this host"
        )
    return _nfs(_dns_name(payload, name, file_system), root)


def _guarded(given: Mapping[str, Any], authorization: Mapping[str, Any]) -> str:
    """Return the protection that a volume requires; empty for none."""
    if authorization.get("iam") == "ENABLED":
        return "IAM authorization"
    return "encryption in transit" if given.get("transitEncryption") == "ENABLED" else ""


def _root(name: str, given: Mapping[str, Any]) -> str:
    """Return the directory below the export, starting with a slash, or an empty string."""
    root = "/" + str(given.get("rootDirectory") or "").strip("/")
    if ".." in root.split("/") or "," in root or "\0" in root:
        raise EfsUnusable(f"volume {name} has a rootDirectory with '..' or a comma")
    return "" if root == "/" else root


def _nfs(server: str, path: str) -> EfsMount:
    return EfsMount(
        driver="local",
        options={"type": "nfs", "device": f":{path or '/'}", "o": f"addr={server},{MOUNT_OPTIONS}"},
    )


def _dns_name(payload: TaskPayload, name: str, file_system: str) -> str:
    _, partition, _, region, *_ = [*payload.arn.split(":"), "", "", "", ""]
    suffix = _DNS_SUFFIXES.get(partition)
    if suffix is None or not region:
        raise EfsUnusable(
            f"volume {name}: the EFS endpoint of {region or 'an unknown region'} is unknown; set "
            f"ECS_EFS_SERVERS of this host for {file_system}"
        )
    return f"{file_system}.efs.{region}.{suffix}"


def _by_plugin(payload: TaskPayload, name: str, given: Mapping[str, Any], root: str) -> EfsMount:
    authorization = given.get("authorizationConfig") or {}
    options = ["tls"] if given.get("transitEncryption") == "ENABLED" else []
    if given.get("transitEncryptionPort"):
        options.append(f"tlsport={given['transitEncryptionPort']}")
    if authorization.get("iam") == "ENABLED":
        role = payload.role_credentials
        if role is None or not role.credentials_id:
            raise EfsUnusable(f"volume {name} requires IAM authorization, but its task has no role")
        options += ["iam", f"awscredsuri=/v2/credentials/{role.credentials_id}"]
    if authorization.get("accessPointId"):
        options.append(f"accesspoint={authorization['accessPointId']}")
    device = str(given["fileSystemId"]) + (f":{root}" if root else "")
    made = {"type": "efs", "device": device}
    return EfsMount(PLUGIN, made | ({"o": ",".join(options)} if options else {}))
