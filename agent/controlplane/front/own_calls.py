"""Calls of our own for operators, which no API of AWS has: ``POST /control/rotate-secret-keys``.

JSON both ways; who may call them is checked as for all calls of operators. An error is ``{"message": ...}``.

Tests: ``tests/unit/controlplane/front/test_own_calls.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct

from agent.controlplane.front import bodies
from agent.controlplane.front.bodies import Bodies, BodyRefused
from agent.controlplane.front.errors import ApiError
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.store.contract import StoreFailure
from agent.listening.connection import prove

if TYPE_CHECKING:
    from agent.controlplane.front.service_api import OperatorSide
    from agent.controlplane.parts import Parts

ROTATE_PATH: Final = "/control/rotate-secret-keys"
_BODY_BYTES: Final = 64 * 1024

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


class OwnCalls:
    """Answers the calls of operators at one address."""

    def __init__(self, parts: Parts, operators: OperatorSide) -> None:
        self._parts = parts
        self._operators = operators
        self._bodies = Bodies(_BODY_BYTES)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the calls to an application."""
        router.add_post(ROTATE_PATH, self._rotate_call)

    async def _rotate_call(self, request: web.Request) -> web.Response:
        try:
            self._operators.expect(request)
            raw = await self._bodies.read(request)
            self._operators.check(request, await bodies.digest(raw))
            prove(request)
            asked = msgspec.json.decode(raw or b"{}", type=RotateKeys)
        except ApiError as error:
            return _problem(error.status, str(error))
        except (BodyRefused, msgspec.DecodeError, UnicodeDecodeError) as error:
            return _problem(400, f"the request cannot be read: {error}")
        keeper = self._parts.secrets
        if keeper is None:
            return _problem(400, "this control endpoint keeps no secrets")
        try:
            done = await keeper.rotate(forget_old=asked.forget_old)
        except (SecretsFailure, StoreFailure) as error:
            _log.error("secret keys not changed", error=str(error))
            return _problem(500, str(error))
        answer = RotatedKeys(done.key_id, done.sealed, done.left, done.keys, str(keeper.file))
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _problem(status: int, message: str) -> web.Response:
    body = msgspec.json.encode({"message": message})
    return web.Response(status=status, body=body, content_type="application/json")
