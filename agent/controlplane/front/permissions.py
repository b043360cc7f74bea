"""Whether the policies of a caller allow a call; asked for each call of a user or a role's session.

What a call needs is in ``authorization.actions``. Names are turned into ARNs here, with the store, and values of
condition keys are found, but only those that a policy of the caller asks for. Who has a key of the file is never
asked about.

Tests: ``test_permissions.py``, ``test_pass_role.py``, ``test_permission_changes.py`` and ``test_refusals.py`` in
``tests/unit/controlplane/front``.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access
from agent.controlplane.api.ecs.task_definitions import find_task_definition
from agent.controlplane.authorization.actions import table
from agent.controlplane.authorization.actions.ecs import ROLES, TASKS_SERVICE
from agent.controlplane.authorization.actions.rows import ANY, Asked, Kind, Named, Passed, Run
from agent.controlplane.authorization.caller import USER
from agent.controlplane.authorization.condition_keys import REQUEST_TAG, is_resource_tag
from agent.controlplane.authorization.grants import Decision
from agent.controlplane.authorization.open_calls import Need
from agent.controlplane.front import tags
from agent.controlplane.front.errors import ApiError
from agent.controlplane.iam import role_records, user_records
from agent.controlplane.iam.role_records import IamRoleRecord
from agent.controlplane.iam.user_records import IamUserRecord
from agent.controlplane.secrets import stored
from agent.controlplane.secrets.stored import SecretMissing
from agent.controlplane.security_groups import stored as groups
from agent.controlplane.security_groups.stored import GroupMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aiohttp import web

    from agent.controlplane.authorization.actions.rows import Also, Resource
    from agent.controlplane.authorization.caller import Caller
    from agent.controlplane.authorization.grants import Grants
    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts

    Values = dict[str, tuple[str, ...]]

PASS_ROLE: Final = "iam:PassRole"  # noqa: S105 - an action
_SHOWN: Final = 1024


class AccessDenied(ApiError):
    """No policy of the caller allows the call, or one denies it."""

    code = "AccessDeniedException"


def check_one(
    caller: Caller, grants: Grants, action: str, request: web.Request, resource: str = ANY
) -> Need:
    """Check one action on an ARN, or on ``*``, and return that; raises ``AccessDenied``."""
    values = _values_of_call(request, caller, {}) if grants.keys(action) else {}
    return _allowed(caller, grants, Need(action, resource, values))


def check_service(caller: Caller, grants: Grants, service: str) -> None:
    """Check all actions of a service that is not served here; raises ``AccessDenied``."""
    _expect(caller, f"{service}:*", ANY, grants.decide_service(service))


class Permissions:
    """Checks the calls of one API; stateless."""

    def __init__(self, parts: Parts, service: str, handlers: Handlers) -> None:
        """Take what is looked up.

        Args:
            parts: of the server.
            service: botocore's name of the API.
            handlers: of the API, one of which knows the tags of its resources.
        """
        self._parts = parts
        self._service = service
        self._handlers = handlers

    async def check(
        self,
        request: web.Request,
        caller: Caller,
        grants: Grants,
        operation: str,
        members: Mapping[str, Any],
    ) -> tuple[Need, ...]:
        """Check that a caller may make a call, and return all that this took.

        Args:
            request: the call.
            caller: who makes it.
            grants: what the policies of the caller say.
            operation: of the API.
            members: of the request, as the model has checked them.

        Raises:
            AccessDenied: it may not.
            StoreFailure: what it is about cannot be read.
        """
        row = table.row(self._service, operation)
        if not row.action:
            return ()
        needs: list[Need] = []
        asked = Asked(self._parts.names, members)
        keys = grants.keys(row.action)
        values: Values = {}
        if keys:
            values = _values_of_call(request, caller, members)
            values |= await self._values_of_row(row.values(asked), keys, caller)
        for resource in row.resources(asked) or [ANY]:
            arn = await self._arn(resource, caller)
            known = values | await self._values_of_row(
                row.of_resource(asked.names, arn) if keys else {}, keys, caller
            )
            if any(map(is_resource_tag, keys)):
                known |= await self._resource_tags(arn)
            needs.append(_allowed(caller, grants, Need(row.action, arn, known)))
        passed = row.passes(asked)
        for run in row.runs(asked):
            passed += await self._roles_of(run)
        needs += [await self._check_passed(one, request, caller, grants) for one in passed]
        needs += [
            await self._check_other(other, request, caller, grants) for other in row.also(asked)
        ]
        return tuple(needs)

    async def _check_passed(
        self, one: Passed, request: web.Request, caller: Caller, grants: Grants
    ) -> Need:
        arn = await self._arn(
            one.role if one.role.startswith("arn:") else Named(Kind.ROLE, one.role), caller
        )
        values = _values_of_call(request, caller, {}) | {"iam:passedtoservice": (one.service,)}
        return _allowed(caller, grants, Need(PASS_ROLE, arn, values))

    async def _check_other(
        self, other: Also, request: web.Request, caller: Caller, grants: Grants
    ) -> Need:
        arn = await self._arn(other.resource, caller)
        keys = grants.keys(other.action)
        values: Values = {}
        if keys:
            values = _values_of_call(request, caller, {})
            values |= await self._values_of_row(other.values, keys, caller)
        return _allowed(caller, grants, Need(other.action, arn, values))

    async def _roles_of(self, run: Run) -> list[Passed]:
        """Return the roles that a task gets: of its definition, where no override replaces them."""
        try:
            found = await find_task_definition(self._parts, run.definition)
        except ApiError:
            found = None  # the handler says what is wrong with it
        body = {} if found is None else found.definition
        roles = [run.overrides.get(name) or body.get(name) for name in ROLES]
        return [Passed(role, TASKS_SERVICE) for role in roles if role and isinstance(role, str)]

    async def _values_of_row(
        self, found: Mapping[str, tuple[Resource, ...]], keys: Collection[str], caller: Caller
    ) -> Values:
        values: Values = {}
        for key in found.keys() & keys:
            each = [await self._arn(resource, caller) for resource in found[key]]
            values[key] = tuple(each)
        return values

    # -- names --------------------------------------------------------------------------------

    async def _arn(self, resource: Resource, caller: Caller) -> str:
        """Return the ARN of a resource; one that does not exist gets the ARN that it would have."""
        if isinstance(resource, str):
            return resource
        asked = Asked(self._parts.names, {})
        match resource.kind:
            case Kind.FAMILY:
                return await self._definition(resource.name)
            case Kind.SECRET:
                return await self._secret(resource.name)
            case Kind.ROLE:
                return await self._of_iam(IamRoleRecord, role_records.role_key, resource.name)
            case Kind.USER:
                if not resource.name:
                    return caller.arn if caller.type == USER else ANY
                return await self._of_iam(IamUserRecord, user_records.user_key, resource.name)
            case Kind.SECURITY_GROUP:
                try:
                    group = await groups.id_of_name(
                        self._parts.store, self._parts.names, resource.name
                    )
                except GroupMissing:
                    group = "*"
                return asked.arn("ec2", f"security-group/{group}")

    async def _definition(self, text: str) -> str:
        names = self._parts.names
        try:
            found = await find_task_definition(self._parts, text)
        except ApiError:
            found = None
        if found is not None:
            return found.arn
        if text.startswith("arn:"):
            return text
        family, _, revision = text.partition(":")
        return Asked(names, {}).arn("ecs", f"task-definition/{family}:{revision or '*'}")

    async def _secret(self, text: str) -> str:
        keeper = self._parts.secrets
        try:
            if keeper is not None:
                return (await stored.find(keeper, text)).arn
        except SecretMissing:
            pass
        if text.startswith("arn:"):
            return text
        return self._parts.names.stored_secret(f"{text}-??????")

    async def _of_iam(self, kind: Any, key_of: Any, name: str) -> str:
        found = await access.find(self._parts.store, kind, key_of(name))
        names: Names = self._parts.names
        if found is not None and found.record.name == name:
            return str(found.record.arn(names))
        what = "role" if kind is IamRoleRecord else "user"
        return f"arn:{names.partition}:iam::{names.account}:{what}/{name}"

    async def _resource_tags(self, arn: str) -> Values:
        found = await tags.of_resource(self._parts, self._service, self._handlers, arn)
        return {
            f"{prefix}{key.lower()}": (value,)
            for key, value in found.items()
            for prefix in ("aws:resourcetag/", "ecs:resourcetag/")
        }


def _allowed(caller: Caller, grants: Grants, need: Need) -> Need:
    """Return a need that policies meet, with the keys that were looked for; raises ``AccessDenied``."""
    decision = grants.decide(need.action, need.resource, need.values)
    _expect(caller, need.action, need.resource, decision)
    return need._replace(keys=grants.keys(need.action))


def _expect(caller: Caller, action: str, resource: str, decision: Decision) -> None:
    if decision is not Decision.ALLOWED:
        raise AccessDenied(
            f"User: {caller.arn} is not authorized to perform: {action} on resource: "
            f"{resource[:_SHOWN]} {decision.value.format(action=action)}"
        )


def _values_of_call(request: web.Request, caller: Caller, members: Mapping[str, Any]) -> Values:
    """Return the values of the keys that every call has."""
    now = time.time()
    given = tags.of_request(members)
    is_user = caller.type == USER
    return {
        "aws:currenttime": (datetime.fromtimestamp(now, UTC).isoformat(),),
        "aws:epochtime": (str(int(now)),),
        "aws:principalaccount": _some([caller.arn.split(":")[4]]),
        "aws:principalarn": (caller.role_arn or caller.arn,),
        "aws:principaltype": ("User" if is_user else "AssumedRole",),
        "aws:requestedregion": _some([_region(request)]),
        "aws:securetransport": (str(request.secure).lower(),),
        "aws:sourceip": _some([request.remote or ""]),
        "aws:tagkeys": (*given, *tags.removed_by(members)),
        "aws:useragent": _some([request.headers.get("User-Agent", "")]),
        "aws:userid": (caller.user_id,),
        "aws:username": (caller.name,) if is_user else (),
        **{f"{REQUEST_TAG}{key.lower()}": (value,) for key, value in given.items()},
    }


def _region(request: web.Request) -> str:
    """Return the region for which a call was signed."""
    credential = request.headers.get("Authorization", "").partition("Credential=")[2]
    return (credential.split("/") + [""] * 3)[2]


def _some(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if text)
