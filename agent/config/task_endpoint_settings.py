"""The settings of what tasks ask the agent: credentials of roles, metadata.

Pure data, the third part of the table of ``Settings``.
"""

# ruff: noqa: RUF009 - setting returns a dataclass field, created once per class like any other
from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING

from agent.config import values
from agent.config.image_settings import ImageSettings
from agent.config.variable import setting

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class TaskEndpointSettings(ImageSettings):
    """What concerns 169.254.170.2; see ``Settings``, which includes all of these."""

    # What tasks ask the agent
    task_roles: bool = setting(
        "ECS_ENABLE_TASK_IAM_ROLE",
        values.BOOL,
        "true",
        "Accept tasks with a role (`taskRoleArn`).",
    )
    task_roles_on_host: bool = setting(
        "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST",
        values.BOOL,
        "true",
        "Accept tasks with a role in `host` mode, too.",
    )
    task_request_rate: tuple[int, int] = setting(
        "ECS_TASK_METADATA_RPS_LIMIT",
        values.REQUEST_RATE,
        "40,60",
        "How many requests per second one source address may send to `169.254.170.2` for one path, and "
        "how many at once; more get 429.",
    )
    introspection_offhost: bool = setting(
        "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS",
        values.BOOL,
        "false",
        "Let other hosts, and tasks in `awsvpc` mode, reach the introspection port.",
    )
    audit_log_file: Path | None = setting(
        "ECS_AUDIT_LOGFILE",
        values.PATH,
        "",
        "File with one line per request for credentials, in the format of Amazon's agent, rotated like "
        "`ECS_LOGFILE`. The agent's log also has these requests.",
        empty=NoneType,
    )
    audit_log_disabled: bool = setting(
        "ECS_AUDIT_LOGFILE_DISABLED",
        values.BOOL,
        "false",
        "Do not write `ECS_AUDIT_LOGFILE`.",
    )
    metadata_zone_hidden: bool = setting(
        "ECS_DISABLE_TASK_METADATA_AZ",
        values.BOOL,
        "false",
        "Leave the availability zone of this host out of task metadata.",
    )
    metadata_files: bool = setting(
        "ECS_ENABLE_CONTAINER_METADATA",
        values.BOOL,
        "false",
        "Give each container a file with metadata; its `ECS_CONTAINER_METADATA_FILE` is the path "
        "([task-endpoint.md](task-endpoint.md#the-metadata-file)).",
    )
