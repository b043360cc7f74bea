"""Which secret is kept where, and what of it goes to which container. Pure.

Source: Amazon ECS agent 1.105.1, ``api/container`` (fields of a secret) and ``agent/asm`` (form of a
reference to Secrets Manager). Where an ARN names a region, that one counts.

Tests: ``tests/unit/engine/preparations/test_secret_references.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.engine import log_config
from agent.engine.firelens import order as firelens
from agent.model import ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.payload import Container, Secret, TaskPayload

LOG_DRIVER: Final = "LOG_DRIVER"
_TARGETS: Final = frozenset({"CONTAINER", LOG_DRIVER})
_TYPES: Final = frozenset({"ENVIRONMENT_VARIABLE", "BOOTSTRAP"})
_BAD_ARN: Final = "unexpected ARN format with parameters when trying to retrieve ASM secret"
_object_of_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BadReference(ValueError):
    """A secret cannot be fetched as it is named, or cannot be given as it is; shows no value."""


class Keeper(StrEnum):
    """Who keeps a secret."""

    CONTROL = "control"
    SSM = "ssm"
    ASM = "asm"


@dataclass(frozen=True, slots=True)
class Reference:
    """One value to fetch; equal ones are fetched once."""

    keeper: Keeper
    name: str
    """Name or ARN; of a secret of Secrets Manager without what follows its id."""
    region: str = ""
    """Empty for this host's own."""
    stage: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class WantedSecret:
    """A variable or an option, and where its value comes from."""

    container: str
    variable: str
    for_log_driver: bool
    reference: Reference
    json_key: str = ""
    """Which member of the value; empty for the whole."""

    @property
    def shown(self) -> str:
        """What an error calls it."""
        what = "log option" if self.for_log_driver else "secret"
        return f"{what} {self.variable!r} of container {self.container}"


def wanted_secrets(payload: TaskPayload) -> list[WantedSecret]:
    """Return every secret of a task.

    Raises:
        BadReference: one that this agent cannot give.
    """
    return [
        _of_router(payload, container, _wanted(container, secret))
        for container in payload.containers
        for secret in container.secrets
    ]


def _of_router(payload: TaskPayload, container: Container, wanted: WantedSecret) -> WantedSecret:
    """Return a secret option of ``awsfirelens`` as the variable of the router that it becomes."""
    router = firelens.router_of(payload)
    if router is None or not wanted.for_log_driver or not firelens.is_routed(container):
        return wanted
    variable = firelens.secret_variable(payload, container, wanted.variable)
    return replace(wanted, container=router.name, variable=variable, for_log_driver=False)


def _wanted(container: Container, secret: Secret) -> WantedSecret:
    target = secret.target or "CONTAINER"
    shown = f"secret {secret.name!r} of container {container.name}"
    for problem in _problems(container, secret, target):
        raise BadReference(f"{shown}: {problem}")
    try:
        reference, json_key = _reference(secret)
    except BadReference as error:
        raise BadReference(f"{shown}: {error}") from None
    return WantedSecret(container.name, secret.name, target == LOG_DRIVER, reference, json_key)


def _problems(container: Container, secret: Secret, target: str) -> Iterator[str]:
    if target not in _TARGETS:
        yield f"target {target!r} is not known"
    if secret.type and secret.type not in _TYPES:
        yield f"type {secret.type!r} is not supported by this agent"
    if not secret.name or "=" in secret.name or "\0" in secret.name:
        yield "its name is empty, or has a character that no variable may have"
    if not secret.value_from:
        yield "valueFrom is empty"
    if target == LOG_DRIVER and not log_config.driver(container):
        yield "its container has no log driver"


def _reference(secret: Secret) -> tuple[Reference, str]:
    if secret.endpoint == "control":
        return Reference(Keeper.CONTROL, secret.value_from), ""
    if secret.endpoint:
        raise BadReference(f"endpoint {secret.endpoint!r} is not known")
    region = ids.region(secret.value_from) or secret.region or ""
    if secret.provider == "ssm":
        return Reference(Keeper.SSM, secret.value_from, region), ""
    if secret.provider == "asm":
        return _of_secrets_manager(secret.value_from, region)
    raise BadReference(f"provider {secret.provider!r} is not known")


def _of_secrets_manager(value_from: str, region: str) -> tuple[Reference, str]:
    """Read ``arn:...:secret:<id>`` with, or without, ``:<json-key>:<version-stage>:<version-id>``."""
    parts = value_from.split(":")
    if parts[0] != "arn" or len(parts) not in (7, 10) or parts[5] != "secret" or not parts[6]:
        raise BadReference(_BAD_ARN)
    json_key, stage, version = parts[7:] or ("", "", "")
    secret_id = ":".join(parts[:7])
    return Reference(Keeper.ASM, secret_id, region, stage, version), json_key


def member(text: str, key: str) -> str:
    """Return one member of a JSON object as an environment variable shows it.

    Text as it is; anything else as the JSON that it was written in, so that no number changes.

    Raises:
        BadReference: the text is not a JSON object, or has no such member.
    """
    try:
        members = _object_of_raw.decode(text)
    except (ValueError, RecursionError):
        raise BadReference(
            f"its value is not a JSON object, which the key {key!r} could be taken from"
        ) from None
    if key not in members:
        raise BadReference(f"its JSON has no key {key!r}")
    raw = bytes(members[key])
    value: Any = msgspec.json.decode(raw) if raw.startswith(b'"') else None
    return value if isinstance(value, str) else raw.decode()


def checked(value: str) -> str:
    """Return a value that a variable or an option can hold; raises ``BadReference``."""
    if "\0" in value:
        raise BadReference("its value has a NUL character, which no variable can hold")
    return value
