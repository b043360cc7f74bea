"""AssumeRole: temporary keys of a role that is kept here.

A caller needs the role's trust policy, and where that names the account alone, a policy of its own. A role that
does not exist is refused like one that may not be assumed.

Source: AWS STS API reference, "AssumeRole".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.authorization import policy, trust
from agent.controlplane.authorization.actions.table import SERVICES
from agent.controlplane.authorization.caller import ROOT, Caller, current, current_grants
from agent.controlplane.authorization.grants import Decision
from agent.controlplane.authorization.policy import PolicyInvalid
from agent.controlplane.authorization.trust import ASSUME, Trust
from agent.controlplane.front.errors import (
    ApiError,
    InvalidParameterException,
    ServerException,
    UnsupportedFeatureException,
)
from agent.controlplane.iam import documents
from agent.controlplane.secrets.sealing import SecretsFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.api.translation import Translations
    from agent.controlplane.iam.role_records import IamRoleRecord
    from agent.controlplane.parts import Parts

SHORTEST_S: Final = 900
_USUAL_S: Final = 3600
_POLICY_MOST: Final = 2048
_SESSION: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_REFUSED: Final = (
    "PolicyArns",
    "Tags",
    "TransitiveTagKeys",
    "SerialNumber",
    "TokenCode",
    "SourceIdentity",
    "ProvidedContexts",
)
_SHOWN: Final = 255


class MalformedPolicyDocumentException(ApiError):
    """The document is no policy, or one that cannot be evaluated here."""


class AccessDeniedException(ApiError):
    """The role does not exist, or the caller may not assume it."""

    status = 403


TRANSLATIONS: Translations = {
    PolicyInvalid: MalformedPolicyDocumentException,
    SecretsFailure: ServerException,
}


async def assume_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return temporary keys of a role, whose policies say what they may do."""
    for member in _REFUSED:
        if request.get(member):
            raise UnsupportedFeatureException(
                f"{member} is not supported by this control endpoint; leave it out."
            )
    name = request["RoleSessionName"]
    if not _SESSION.fullmatch(name):
        raise InvalidParameterException(
            "RoleSessionName must have 2 to 64 letters, digits and the characters _+=,.@-"
        )
    directory = parts.directory
    if directory is None:
        raise UnsupportedFeatureException("this control endpoint keeps no roles")
    role = _permitted(parts, request)
    session, token = await directory.begin(
        role,
        name,
        now=parts.clock(),
        duration_s=_duration_s(request, role),
        session_policy=_session_policy(request),
    )
    names = parts.names
    return {
        "Credentials": {
            "AccessKeyId": session.key_id,
            "SecretAccessKey": session.secret,
            "SessionToken": token,
            "Expiration": session.expires_at,
        },
        "AssumedRoleUser": {
            "AssumedRoleId": f"{role.id}:{name}",
            "Arn": f"arn:{names.partition}:sts::{names.account}:assumed-role/{role.name}/{name}",
        },
    }


def _permitted(parts: Parts, request: Mapping[str, Any]) -> IamRoleRecord:
    """Return the role; raises ``AccessDeniedException`` if there is none that the caller may assume."""
    arn, names = request["RoleArn"], parts.names
    who = current() or Caller(ROOT, "anyone", names.root())
    directory = parts.directory
    role = directory.role(arn) if directory is not None and arn.startswith("arn:") else None
    refusal = AccessDeniedException(
        f"User: {who.arn} is not authorized to perform: {ASSUME} on resource: {arn[:_SHOWN]}"
    )
    if role is None or directory is None:
        raise refusal
    values = trust.values_of(who, names.account) | {
        "sts:rolesessionname": (request["RoleSessionName"],),
        "sts:externalid": (request["ExternalId"],) if request.get("ExternalId") else (),
    }
    found = trust.of_caller(directory.trust(role), who, values)
    grants = current_grants()
    own = Decision.ALLOWED if grants is None else grants.decide(ASSUME, arn, values)
    permitted = {
        Trust.FULL: (Decision.ALLOWED, Decision.NOT_ALLOWED),
        Trust.ACCOUNT: (Decision.ALLOWED,),
    }
    if own not in permitted.get(found, ()):
        raise refusal
    return role


def _duration_s(request: Mapping[str, Any], role: IamRoleRecord) -> float:
    given: int = request.get("DurationSeconds", min(_USUAL_S, role.max_session_s))
    if given < SHORTEST_S:
        raise InvalidParameterException(f"DurationSeconds must be at least {SHORTEST_S}.")
    if given > role.max_session_s:
        raise InvalidParameterException(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    return given


def _session_policy(request: Mapping[str, Any]) -> str:
    document: str = request.get("Policy", "")
    if document:
        policy.compile_permissions(document, SERVICES)
        if documents.length(document) > _POLICY_MOST:
            raise InvalidParameterException(f"Policy can have at most {_POLICY_MOST} characters.")
    return document
