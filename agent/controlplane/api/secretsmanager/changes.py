"""What changes a secret besides its next value: UpdateSecret, UpdateSecretVersionStage, and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane.api import tag_lists
from agent.controlplane.api.secretsmanager.secrets import read_value, refuse_others
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.secrets import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.secrets.secret_records import SecretRecord


async def update_secret(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the description of a secret, store a new value, or both."""
    refuse_others(request)
    value, is_binary = read_value(request, is_needed=False)
    keeper, now = parts.keeper(), parts.clock()
    description = request.get("Description")
    if value is not None:
        secret, version = await stored.put_value(
            keeper,
            request["SecretId"],
            value,
            is_binary=is_binary,
            version_id=request.get("ClientRequestToken", ""),
            description=description,
            now=now,
        )
        return {"ARN": secret.arn, "Name": secret.name, "VersionId": version.id}

    def decide(old: SecretRecord) -> SecretRecord:
        stored.alive(old)
        if description in (None, old.description):
            return old
        return replace(old, description=description, changed_at=now)

    secret = await stored.change(keeper, request["SecretId"], decide)
    return {"ARN": secret.arn, "Name": secret.name}


async def update_secret_version_stage(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Move a stage to another version, or take it away."""
    to, from_ = request.get("MoveToVersionId", ""), request.get("RemoveFromVersionId", "")
    if not to and not from_:
        raise InvalidParameterException("Give MoveToVersionId, RemoveFromVersionId, or both.")
    secret = await stored.move_stage(
        parts.keeper(),
        request["SecretId"],
        request["VersionStage"],
        to=to,
        from_=from_,
        now=parts.clock(),
    )
    return {"ARN": secret.arn, "Name": secret.name}


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of a secret."""
    given = request["Tags"]
    await _change_tags(
        parts,
        request,
        lambda old: tag_lists.merged(old, given, invalid=InvalidParameterException),
    )
    return {}


async def untag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of a secret."""
    gone = frozenset(request["TagKeys"])
    await _change_tags(parts, request, lambda old: tag_lists.without(old, gone))
    return {}


async def _change_tags(
    parts: Parts,
    request: Mapping[str, Any],
    decide: Callable[[Mapping[str, str]], dict[str, str]],
) -> None:
    await stored.change(
        parts.keeper(),
        request["SecretId"],
        lambda old: replace(stored.alive(old), tags=decide(old.tags)),
    )


HANDLERS: Handlers = {
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateSecret": update_secret,
    "UpdateSecretVersionStage": update_secret_version_stage,
}
