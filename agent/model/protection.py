"""Scale-in protection of tasks, in the shapes of the ECS API: part of the long-poll wire (``wire``).

====== ======================================= ======================================================
POST   ``/v1/instances/{id}/protection``       ``ProtectionCall`` → 200 ``ProtectionOutcome``; 400 with
                                               the code ``InvalidParameterException``
====== ======================================= ======================================================

A protected task is not stopped to make a service smaller or to replace it by a newer revision. An
agent asks for tasks of its own host alone. A protection that is set again begins again, so a call may
be repeated.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, field

DEFAULT_MINUTES: Final = 120
LEAST_MINUTES: Final = 1
MOST_MINUTES: Final = 2880
"""Source of the three: API reference of Amazon ECS, UpdateTaskProtection."""


UnixTime = Annotated[float, Meta(ge=0.0, le=253_402_300_799.0)]
"""Seconds; not after the year 9999."""


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class ProtectionChange(_Wire, frozen=True):
    """What a task's protection is to be."""

    protection_enabled: bool
    expires_in_minutes: int | None = None
    """From now on; None for ``DEFAULT_MINUTES``. Has no meaning without protection."""


class ProtectionCall(_Wire, frozen=True):
    """Reads the protection of a task, or changes it."""

    task_arn: str
    change: ProtectionChange | None = None
    """None to read it."""


class ProtectedTask(_Wire, frozen=True):
    """The protection of a task as it is now."""

    task_arn: str
    protection_enabled: bool = False
    expiration_date: UnixTime | None = None
    """Unix seconds; None for a task that is not protected."""


class ProtectionFailure(_Wire, frozen=True):
    """Why a task has no protection that could be read or changed."""

    arn: str
    reason: str
    """``MISSING``, ``TASK_NOT_VALID``, ``DEPLOYMENT_BLOCKED``..."""
    detail: str | None = None


class ProtectionOutcome(_Wire, frozen=True):
    """Each task that was asked for is in one of the lists."""

    protected_tasks: list[ProtectedTask] = field(default_factory=list)
    failures: list[ProtectionFailure] = field(default_factory=list)
