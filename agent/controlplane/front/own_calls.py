"""Calls of our own for operators, which no API of AWS has.

================================== ============================================================
POST ``/control/rotate-secret-keys`` ``RotateKeys`` → ``RotatedKeys``
POST ``/control/usage``              ``AskUsage`` → ``fleet_views.FleetView``
POST ``/control/events``             ``AskEvents`` → a stream (``event_stream``)
POST ``/control/changes``            ``AskChanges`` → a stream (``console.stream``)
POST ``/control/pki...``             certificates (``pki_calls``)
================================== ============================================================

JSON both ways; who may call them is checked as for all calls of operators: a policy allows them as
``control:RotateSecretKeys``, ``control:GetUsage``, ``control:StreamEvents`` and ``control:StreamChanges``. An error is ``{"message": ...}``.

Tests: ``tests/unit/controlplane/front/test_own_calls.py``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import structlog
from msgspec import Struct

from agent.controlplane import fleet_usage
from agent.controlplane.authorization.actions.rows import ANY
from agent.controlplane.console.stream import CHANGES_PATH, AskChanges
from agent.controlplane.front import bodies, operators
from agent.controlplane.front.bodies import Bodies, BodyRefused
from agent.controlplane.front.errors import ApiError
from agent.controlplane.front.event_stream import EVENTS_PATH, AskEvents
from agent.controlplane.front.line_stream import TooManyReaders
from agent.controlplane.front.noting import note_plain
from agent.controlplane.front.operators import CALLER
from agent.controlplane.front.own_answers import OwnCallRefused, answer, problem
from agent.controlplane.front.pki_calls import PkiCalls
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.store.contract import StoreFailure
from agent.errors import BAD_JSON
from agent.listening.connection import prove

if TYPE_CHECKING:
    from aiohttp import web

    from agent.controlplane.console.stream import ChangeStream
    from agent.controlplane.front.event_stream import EventStream
    from agent.controlplane.front.operators import Operators
    from agent.controlplane.parts import Parts

ROTATE_PATH: Final = "/control/rotate-secret-keys"
USAGE_PATH: Final = "/control/usage"
_BODY_BYTES: Final = 64 * 1024

_Asked = TypeVar("_Asked", bound=Struct)
_log = structlog.get_logger(__name__)


class RotateKeys(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to do with the keys that encrypt secrets."""

    forget_old: bool = False
    """Remove the old keys from the file."""


class RotatedKeys(Struct, frozen=True, rename="camel"):
    """What was done."""

    key: str
    """Id of the new key."""
    sealed: int
    """Secrets that were encrypted anew."""
    left: int
    """Secrets that could not be, and need an old key still."""
    keys: int
    """Keys in the file."""
    file: str


class AskUsage(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Whose figures to return."""

    cluster: str = "default"
    """Name of the cluster."""


class OwnCalls:
    """Answers the calls of operators at one address."""

    def __init__(
        self, parts: Parts, operators: Operators, events: EventStream, changes: ChangeStream
    ) -> None:
        self._parts = parts
        self._operators = operators
        self._bodies = Bodies(_BODY_BYTES)
        self._events = events
        self._changes = changes
        self._pki = PkiCalls(parts, self.asked)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the calls to an application."""
        router.add_post(ROTATE_PATH, self._rotate_call)
        router.add_post(USAGE_PATH, self._usage_call)
        router.add_post(EVENTS_PATH, self._events_call)
        router.add_post(CHANGES_PATH, self._changes_call)
        self._pki.add_routes(router)

    async def asked(self, request: web.Request, kind: type[_Asked], action: str) -> _Asked:
        """Return what an operator asks, whose policies must allow an action: on a cluster, if it names one.

        Raises:
            OwnCallRefused: the sender is not an operator, may not do this, or the body cannot be read.
        """
        try:
            self._operators.expect(request)
            raw = await self._bodies.read(request)
            admitted = self._operators.admit(request, await bodies.digest(raw))
            prove(request)
            asked = msgspec.json.decode(raw or b"{}", type=kind)
            cluster = getattr(asked, "cluster", None)
            resource = ANY if cluster is None else self._parts.names.cluster(cluster)
            operators.permit(request, admitted, action, resource)
        except ApiError as error:
            raise OwnCallRefused(error.status, str(error)) from None
        except (*BAD_JSON, BodyRefused) as error:
            raise OwnCallRefused(400, f"the request cannot be read: {error}") from None
        return asked

    async def _usage_call(self, request: web.Request) -> web.Response:
        try:
            asked = await self.asked(request, AskUsage, "control:GetUsage")
            found = await fleet_usage.read(self._parts, asked.cluster)
        except OwnCallRefused as refused:
            return problem(refused.status, str(refused))
        except StoreFailure as error:
            return problem(500, str(error))
        if found is None:
            return problem(404, f"there is no cluster {asked.cluster[:255]!r}")
        return answer(found)

    async def _events_call(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await self.asked(request, AskEvents, "control:StreamEvents")
            return await self._events.answer(request, asked)
        except OwnCallRefused as refused:
            return problem(refused.status, str(refused))
        except TooManyReaders as error:
            return problem(503, str(error))

    async def _changes_call(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await self.asked(request, AskChanges, "control:StreamChanges")
            return await self._changes.answer(request, asked)
        except OwnCallRefused as refused:
            return problem(refused.status, str(refused))
        except TooManyReaders as error:
            return problem(503, str(error))

    async def _rotate_call(self, request: web.Request) -> web.Response:
        try:
            asked = await self.asked(request, RotateKeys, "control:RotateSecretKeys")
        except OwnCallRefused as refused:
            return problem(refused.status, str(refused))
        rotated = await self._rotated(asked)
        note_plain(
            self._parts,
            request,
            request[CALLER],
            operation="RotateSecretKeys",
            request_id=str(uuid.uuid4()),
            asked={"forgetOld": asked.forget_old},
            error="" if rotated.status == 200 else "ServerException",
        )
        return rotated

    async def _rotated(self, asked: RotateKeys) -> web.Response:
        keeper = self._parts.secrets
        if keeper is None:
            return problem(400, "this control endpoint keeps no secrets")
        try:
            done = await keeper.rotate(forget_old=asked.forget_old)
        except (SecretsFailure, StoreFailure) as error:
            _log.error("secret keys not changed", error=str(error))
            return problem(500, str(error))
        return answer(RotatedKeys(done.key_id, done.sealed, done.left, done.keys, str(keeper.file)))
