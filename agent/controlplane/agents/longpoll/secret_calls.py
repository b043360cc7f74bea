"""Secrets for agents: ``POST /v1/secrets``, the values that control keeps for a task.

A host gets the values that a task names which is placed on it and has not stopped, and no others.

Tests: ``tests/unit/controlplane/agents/test_secret_calls.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.agents.longpoll.errors import InvalidRequest, SecretsClosed
from agent.controlplane.names import parse_arn
from agent.controlplane.records import TaskRecord
from agent.controlplane.secrets import task_values
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord

NAMES_MOST: Final = 1000
_SHOWN: Final = 256


class AskedSecrets(Struct, frozen=True, rename="camel"):
    """What an agent asks for."""

    instance: str
    task_arn: str
    names: list[str]


class SecretValues(Struct, frozen=True, rename="camel"):
    """The values by their ``valueFrom``; ``repr`` shows none."""

    values: dict[str, str]

    def __repr__(self) -> str:
        return f"SecretValues({', '.join(self.values)})"


class SecretsLacking(Struct, frozen=True, rename="camel"):
    """Those that control does not have, or not for this task."""

    error: str
    missing: list[str]


_asked = msgspec.json.Decoder(AskedSecrets)


def read(body: bytes) -> AskedSecrets:
    """Return what a call asks for; raises ``InvalidRequest``."""
    try:
        asked = _asked.decode(body)
    except BAD_JSON as error:
        raise InvalidRequest(f"the names of secrets cannot be read: {error}") from None
    if len(asked.names) > NAMES_MOST:
        raise InvalidRequest(f"more than {NAMES_MOST} secrets in one call")
    return asked


async def answer(
    parts: Parts, instance: InstanceRecord, asked: AskedSecrets
) -> SecretValues | SecretsLacking:
    """Return the values, all of them or what is missing.

    Raises:
        SecretsClosed: a value is there and cannot be decrypted now.
    """
    names = dict.fromkeys(asked.names)
    task = await _task(parts, asked.task_arn)
    if task is None or task.instance_id != instance.id or task.last_status == "STOPPED":
        return SecretsLacking("no such task is placed on this container instance", list(names))
    keeper, kept = parts.secrets, set(task.kept_here)
    values: dict[str, str] = {}
    try:
        for name in names:
            found = await task_values.value(keeper, name) if keeper and name in kept else None
            if found is not None:
                values[name] = found
    except SecretsFailure as error:
        raise SecretsClosed(str(error)) from None
    missing = [name[:_SHOWN] for name in names if name not in values]
    if missing:
        return SecretsLacking("control does not have these secrets for this task", missing)
    return SecretValues(values)


async def _task(parts: Parts, arn: str) -> TaskRecord | None:
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind != "task" or len(parsed.path) != 2:
        return None
    found = await access.find(parts.store, TaskRecord, records.task_key(*parsed.path))
    return found.record if found is not None and found.record.arn == arn else None
