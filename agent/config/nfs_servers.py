"""``ECS_EFS_SERVERS``: which NFS server stands for which EFS file system. Pure.

A JSON map. A key is a file system (``fs-0123``), one of its access points (``fs-0123/fsap-0456``), or
``*`` for all others; a value is ``HOST:/PATH``. In the value of ``*``, ``{fileSystemId}`` and
``{accessPointId}`` stand for what the task definition names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from agent.config.values import Kind

_EXAMPLE = '{"fs-0123": "nas.example:/exports/web"}'
_KEY = re.compile(r"\*|[A-Za-z0-9:_-]{1,128}(/[A-Za-z0-9:_-]{1,128})?")
_EXPORT = re.compile(r"(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):(/[^\s,]*)")
_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_PLACEHOLDERS = frozenset({"{fileSystemId}", "{accessPointId}"})
OTHERS = "*"


@dataclass(frozen=True, slots=True)
class NfsExport:
    """A directory that an NFS server exports."""

    server: str
    """Host name or address; an IPv6 address without brackets."""
    path: str
    """Absolute, without a slash at its end; empty for the root."""


def parse_nfs_servers(text: str) -> dict[str, NfsExport]:
    """Parse the setting; raises ``ValueError`` with what is wrong and how to mend it."""
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"is not valid JSON; write for example {_EXAMPLE}") from None
    if not isinstance(given, dict):
        raise ValueError(f"is not a JSON object; write for example {_EXAMPLE}")  # noqa: TRY004
    return {_key(key): _export(key, value) for key, value in given.items()}


def find_export(
    servers: dict[str, NfsExport], file_system_id: str, access_point_id: str = ""
) -> NfsExport | None:
    """Return the export that stands for a file system, or for one of its access points.

    An access point has a root of its own, so an entry of the file system alone is not one for it.
    """
    key = f"{file_system_id}/{access_point_id}" if access_point_id else file_system_id
    if key in servers:
        return servers[key]
    others = servers.get(OTHERS)
    if others is None or (access_point_id and "{accessPointId}" not in others.path):
        return None
    path = others.path.replace("{fileSystemId}", file_system_id)
    return NfsExport(others.server, path.replace("{accessPointId}", access_point_id).rstrip("/"))


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"has the key {key[:140]!r}; write a file system (fs-0123), an access point "
            "(fs-0123/fsap-0456) or *"
        )
    return key


def _export(key: str, value: object) -> NfsExport:
    match = _EXPORT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"has no export at {key!r}; write HOST:/PATH without blanks and commas, for example "
            "nas.example:/exports/web"
        )
    path = match[2]
    unknown = set(_PLACEHOLDER.findall(path)) - (_PLACEHOLDERS if key == OTHERS else set())
    if unknown:
        raise ValueError(
            f"has {min(unknown)} at {key!r}; only the path of * may have {{fileSystemId}} and "
            "{accessPointId}"
        )
    return NfsExport(match[1].strip("[]"), path.rstrip("/"))


EFS_SERVERS = Kind("JSON map", parse_nfs_servers)
