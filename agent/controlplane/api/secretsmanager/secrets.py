"""Secrets: create, put a value, get, describe, list, delete and restore."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api import name_pages, tag_lists
from agent.controlplane.api.secretsmanager.errors import (
    InvalidRequestException,
)
from agent.controlplane.front import pages
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.secrets import stored
from agent.controlplane.secrets.stored import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.secrets.secret_records import SecretRecord

VALUE_MOST_BYTES: Final = 65_536
PAGE_MOST: Final = 100
WINDOW_DAYS: Final = range(7, 31)
DEFAULT_WINDOW_DAYS: Final = 30
_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_NOT_SERVED: Final = {
    "KmsKeyId": "control encrypts with its own key",
    "AddReplicaRegions": "there is one region here",
    "Type": "secrets are values of your own here",
    "RotationToken": "nothing rotates secrets here",
}


async def create_secret(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a secret."""
    name = request["Name"]
    if not _NAME.fullmatch(name):
        raise InvalidParameterException(
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the "
            "following: -/_+=.@"
        )
    refuse_others(request)
    value, is_binary = read_value(request, is_needed=False)
    made = await stored.create(
        parts.keeper(),
        parts.names,
        name,
        value=value,
        is_binary=is_binary,
        version_id=request.get("ClientRequestToken", ""),
        description=request.get("Description", ""),
        tags=tag_lists.merged({}, request.get("Tags", ()), invalid=InvalidParameterException),
        now=parts.clock(),
    )
    current = next((v.id for v in made.versions if CURRENT in v.stages), None)
    return {"ARN": made.arn, "Name": made.name, "VersionId": current}


async def put_secret_value(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Store a new value."""
    refuse_others(request)
    value, is_binary = read_value(request, is_needed=True)
    secret, version = await stored.put_value(
        parts.keeper(),
        request["SecretId"],
        value or "",
        is_binary=is_binary,
        version_id=request.get("ClientRequestToken", ""),
        stages=request.get("VersionStages") or (CURRENT,),
        now=parts.clock(),
    )
    return {
        "ARN": secret.arn,
        "Name": secret.name,
        "VersionId": version.id,
        "VersionStages": version.stages,
    }


async def get_secret_value(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a value, the current one by default."""
    keeper = parts.keeper()
    secret = await stored.find(keeper, request["SecretId"])
    version = stored.version_of(
        secret,
        version_id=request.get("VersionId", ""),
        stage=request.get("VersionStage", ""),
    )
    value = stored.value_of(keeper, secret, version)
    return {
        "ARN": secret.arn,
        "Name": secret.name,
        "VersionId": version.id,
        "SecretBinary" if version.is_binary else "SecretString": value,
        "VersionStages": version.stages,
        "CreatedDate": version.created_at,
    }


async def describe_secret(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a secret but its values."""
    secret = await stored.find(parts.keeper(), request["SecretId"])
    return _shown(secret) | {"VersionIdsToStages": {v.id: v.stages for v in secret.versions}}


async def list_secret_version_ids(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the versions of a secret by id; one without a stage does not exist here."""
    size = _page_size(request)
    secret = await stored.find(parts.keeper(), request["SecretId"])
    given = {"SecretId": request["SecretId"], "nextToken": request.get("NextToken")}
    after = pages.start_after("ListSecretVersionIds", given) or ""
    rest = sorted((v for v in secret.versions if v.id > after), key=lambda v: v.id)
    shown = rest[:size]
    token = pages.token("ListSecretVersionIds", given, shown[-1].id) if len(rest) > size else None
    return {
        "ARN": secret.arn,
        "Name": secret.name,
        "Versions": [
            {"VersionId": v.id, "VersionStages": v.stages, "CreatedDate": v.created_at}
            for v in shown
        ],
        "NextToken": token,
    }


async def get_resource_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return that a secret has no policy: every key of control may read it."""
    secret = await stored.find(parts.keeper(), request["SecretId"])
    return {"ARN": secret.arn, "Name": secret.name}


async def list_secrets(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List secrets by name, without values."""
    for member in ("SortBy", "SortOrder"):
        if request.get(member, "") not in ("", "name", "asc"):
            raise InvalidParameterException(
                f"'{member}' is not supported: secrets are listed by name. Leave it out."
            )
    size = _page_size(request)
    keeper = parts.keeper()
    found, next_token = await name_pages.page(
        "ListSecrets",
        request,
        filters=("Filters", "IncludePlannedDeletion"),
        size=size,
        every=lambda after: stored.every(keeper, start_after=after),
        is_wanted=_filter(request),
        place=lambda one: one.name,
    )
    shown = [
        _shown(secret) | {"SecretVersionsToStages": {v.id: v.stages for v in secret.versions}}
        for secret in found
    ]
    return {"SecretList": shown, "NextToken": next_token}


async def delete_secret(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Mark a secret for deletion, or delete it at once."""
    at_once, days = request.get("ForceDeleteWithoutRecovery"), request.get("RecoveryWindowInDays")
    if at_once and days is not None:
        raise InvalidParameterException(
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays."
        )
    days = DEFAULT_WINDOW_DAYS if days is None else days
    if days not in WINDOW_DAYS:
        raise InvalidParameterException(
            "RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."
        )
    secret = await stored.delete(
        parts.keeper(),
        request["SecretId"],
        window_days=0 if at_once else days,
        now=parts.clock(),
    )
    return {"ARN": secret.arn, "Name": secret.name, "DeletionDate": secret.deleted_at}


async def restore_secret(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Take back a deletion."""
    secret = await stored.restore(parts.keeper(), request["SecretId"])
    return {"ARN": secret.arn, "Name": secret.name}


def refuse_others(request: Mapping[str, Any]) -> None:
    """Raise ``InvalidParameterException`` if a request names something that is not served."""
    for member, mend in _NOT_SERVED.items():
        if request.get(member):
            raise InvalidParameterException(f"'{member}' is not supported: {mend}. Leave it out.")


def read_value(request: Mapping[str, Any], *, is_needed: bool) -> tuple[str | None, bool]:
    """Return the value of a request and whether it is binary; raises ``ApiError``."""
    text, binary = request.get("SecretString"), request.get("SecretBinary")
    if text is not None and binary is not None:
        raise InvalidParameterException("You can't specify both a binary and a string value.")
    if is_needed and text is None and binary is None:
        raise InvalidRequestException("You must provide either SecretString or SecretBinary.")
    if binary is None:
        if text is not None and not 1 <= len(text.encode()) <= VALUE_MOST_BYTES:
            raise InvalidParameterException(f"A value must have 1 to {VALUE_MOST_BYTES} bytes.")
        return text, False
    try:
        size = len(base64.b64decode(binary, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidParameterException("SecretBinary is not base64.") from None
    if not 1 <= size <= VALUE_MOST_BYTES:
        raise InvalidParameterException(f"A value must have 1 to {VALUE_MOST_BYTES} bytes.")
    return binary, True


def _page_size(request: Mapping[str, Any]) -> int:
    size: int = request.get("MaxResults", PAGE_MOST)
    if not 1 <= size <= PAGE_MOST:
        raise InvalidParameterException(f"MaxResults must be between 1 and {PAGE_MOST}.")
    return size


def _shown(secret: SecretRecord) -> dict[str, Any]:
    return {
        "ARN": secret.arn,
        "Name": secret.name,
        "Description": secret.description or None,
        "LastChangedDate": secret.changed_at,
        "DeletedDate": secret.deleted_at or None,
        "CreatedDate": secret.created_at,
        "Tags": tag_lists.shown(secret.tags),
    }


def _filter(request: Mapping[str, Any]) -> Callable[[SecretRecord], bool]:
    wanted: list[str] = []
    for item in request.get("Filters", ()):
        if item.get("Key") not in ("name", "all"):
            raise InvalidParameterException(
                f"The filter {str(item.get('Key'))[:64]} is not supported; use name."
            )
        wanted += item.get("Values", [])
    with_deleted = bool(request.get("IncludePlannedDeletion"))

    def test(secret: SecretRecord) -> bool:
        if secret.deleted_at and not with_deleted:
            return False
        return not wanted or any(secret.name.startswith(prefix) for prefix in wanted)

    return test


HANDLERS: Handlers = {
    "CreateSecret": create_secret,
    "PutSecretValue": put_secret_value,
    "GetSecretValue": get_secret_value,
    "DescribeSecret": describe_secret,
    "GetResourcePolicy": get_resource_policy,
    "ListSecretVersionIds": list_secret_version_ids,
    "ListSecrets": list_secrets,
    "DeleteSecret": delete_secret,
    "RestoreSecret": restore_secret,
}
