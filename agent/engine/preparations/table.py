"""The kinds of preparations, and what a task wants of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.preparations.environment_files import EnvironmentFilePreparation
from agent.engine.preparations.secrets import SecretPreparation
from agent.engine.preparations.volumes import VolumePreparation

if TYPE_CHECKING:
    from agent.engine.preparations.contract import Preparation
    from agent.model.payload import TaskPayload

PREPARATIONS: tuple[Preparation, ...] = (
    VolumePreparation(),
    SecretPreparation(),
    EnvironmentFilePreparation(),
)
"""In no order: those of a task are done side by side."""

_BY_KEY = {f"@{preparation.name}": preparation for preparation in PREPARATIONS}


def wanted(payload: TaskPayload) -> dict[str, Preparation]:
    """Return what a task wants, by the key of its step."""
    return {key: each for key, each in _BY_KEY.items() if each.is_wanted(payload)}


def of_step(key: str) -> Preparation:
    """Return the preparation of a step's key; raises ``KeyError`` for the key of another step."""
    return _BY_KEY[key]
