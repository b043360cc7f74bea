"""The kinds of preparations, and which ones a task needs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.preparations.awslogs import AwslogsPreparation
from agent.engine.preparations.environment_files import EnvironmentFilePreparation
from agent.engine.preparations.firelens import FirelensPreparation
from agent.engine.preparations.namespaces import NamespacePreparation
from agent.engine.preparations.secrets import SecretPreparation
from agent.engine.preparations.task_cgroup import TaskCgroupPreparation
from agent.engine.preparations.task_role import TaskRolePreparation
from agent.engine.preparations.volumes import VolumePreparation

if TYPE_CHECKING:
    from agent.engine.preparations.contract import Preparation
    from agent.model.payload import TaskPayload

PREPARATIONS: tuple[Preparation, ...] = (
    VolumePreparation(),
    SecretPreparation(),
    EnvironmentFilePreparation(),
    TaskCgroupPreparation(),
    NamespacePreparation(),
    AwslogsPreparation(),
    FirelensPreparation(),
    TaskRolePreparation(),
)
"""In no particular order: those of a task run in parallel."""

_BY_KEY = {f"@{preparation.name}": preparation for preparation in PREPARATIONS}


def wanted(payload: TaskPayload) -> dict[str, Preparation]:
    """Return the preparations that a task needs, by the keys of their steps."""
    return {key: each for key, each in _BY_KEY.items() if each.is_wanted(payload)}


def of_step(key: str) -> Preparation:
    """Return the preparation for a step's key; raises ``KeyError`` for the key of another step."""
    return _BY_KEY[key]
