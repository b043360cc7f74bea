"""The values that a task definition names, as containers get them.

Source: the ECS developer guide ("Pass Secrets Manager secrets through Amazon ECS environment variables").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.controlplane.definition import secret_refs
from agent.controlplane.secrets import parameters, stored
from agent.controlplane.secrets.stored import SecretDeleted, SecretMissing
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.definition.secret_refs import SecretRef
    from agent.controlplane.secrets.keeper import SecretKeeper
    from agent.controlplane.secrets.secret_records import (
        ParameterRecord,
        SecretRecord,
        SecretVersionRecord,
    )


async def value(keeper: SecretKeeper, value_from: str) -> str | None:
    """Return the value of a ``valueFrom``; None if control does not have it.

    A bare name is that of a parameter, or of a secret if there is no such parameter. A binary value
    cannot be given to a container, and counts as missing.

    Raises:
        SecretsFailure: it has it, and cannot open it.
    """
    ref = secret_refs.parse(value_from)
    if ref is None:
        return None
    parameter = await _parameter(keeper, ref)
    if parameter is not None:
        return parameters.value_of(keeper, parameter)
    found = await _secret(keeper, ref)
    if found is None or found[1].is_binary:
        return None
    text = stored.value_of(keeper, *found)
    return _member(text, ref.json_key) if ref.json_key else text


async def exists(keeper: SecretKeeper, value_from: str) -> bool:
    """Return whether control has a value for a ``valueFrom``; opens nothing."""
    ref = secret_refs.parse(value_from)
    if ref is None:
        return False
    return await _parameter(keeper, ref) is not None or await _secret(keeper, ref) is not None


async def kept_names(keeper: SecretKeeper, names: Iterable[str]) -> set[str]:
    """Return those of some bare names that control keeps, as a parameter or as a secret."""
    return {name for name in names if await exists(keeper, name)}


async def _parameter(keeper: SecretKeeper, ref: SecretRef) -> ParameterRecord | None:
    if ref.service != secret_refs.PARAMETERS:
        return None
    find = parameters.find_by_arn_name if ref.account else parameters.find
    found = await find(keeper, ref.name)
    if found is None or ref.version_id not in ("", str(found.version)):
        return None
    return found


async def _secret(
    keeper: SecretKeeper, ref: SecretRef
) -> tuple[SecretRecord, SecretVersionRecord] | None:
    if ref.account and ref.service != secret_refs.SECRETS:
        return None
    given = ref.secret_arn if ref.account else ref.name
    try:
        record = await stored.find(keeper, given)
        return record, stored.version_of(record, version_id=ref.version_id, stage=ref.version_stage)
    except (SecretMissing, SecretDeleted):
        return None


def _member(text: str, json_key: str) -> str | None:
    """Return a member of a JSON object as text; None if there is no such member."""
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except BAD_JSON:
        return None
    if json_key not in members:
        return None
    raw = bytes(members[json_key])
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
