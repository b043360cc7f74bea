"""One API of AWS: an aiohttp handler for its calls, in every protocol that its model names.

``codecs`` reads a request and writes its answer in the request's protocol; all between is the same. Every
response has an ``x-amzn-RequestId``. An unexpected failure is a 500 ``ServerException`` with the request
id, logged once, here.

``front.operators`` decides who may call, depending on the address of the request, and ``front.permissions``
what users and sessions of roles may do. The admitted caller is in ``request[CALLER]``. Calls that agents make need one of control's tokens instead (``agents.amazon``); an address for agents accepts no other
calls.

Tests: ``tests/unit/controlplane/api/ecs/test_service_api.py``,
``tests/unit/controlplane/front/test_bodies.py``, ``tests/unit/controlplane/front/test_codecs.py``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from aiohttp import web

from agent.controlplane.authorization.caller import AGENT, Caller, answering
from agent.controlplane.authorization.open_calls import AllowedCall
from agent.controlplane.front import bodies, calling
from agent.controlplane.front.bodies import (
    Bodies,
    BodyLate,
    BodyRefused,
    BodyTooLarge,
    EncodingUnknown,
)
from agent.controlplane.front.codecs.table import Codecs
from agent.controlplane.front.errors import (
    ApiError,
    NotServedHere,
    RequestEntityTooLargeException,
    RequestTimeoutException,
    SerializationException,
    ServerException,
    UnsupportedFeatureException,
    UnsupportedMediaTypeException,
)
from agent.controlplane.front.noting import Progress
from agent.controlplane.front.operators import CALLER, Admitted
from agent.controlplane.front.permissions import Permissions
from agent.controlplane.monitoring.figures import OTHER, Call
from agent.controlplane.store.contract import StoreFailure
from agent.listening.connection import prove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.front.codecs.contract import Codec, Reply
    from agent.controlplane.front.operators import Operators
    from agent.controlplane.front.service_model import ApiModel
    from agent.controlplane.parts import Handler, Handlers, Parts

BODY_LIMIT_BYTES = 1024 * 1024
HANDLER_TIMEOUT_S = 60.0
_CHECK_IN_THREAD_BYTES = 32 * 1024
"""Checking a large request may take half a second; others must not wait for it."""

_AGENT = Admitted(Caller(AGENT, "agent"))
"""Whoever signs with one of control's tokens."""

_log = structlog.get_logger(__name__)


class AgentSide(Protocol):
    """Answers the calls of agents; implemented by ``agents.amazon.calls.AgentCalls``."""

    def serves(self, operation: str) -> bool:
        """Return whether ``call`` answers an operation."""

    def is_for_agents(self, operation: str) -> bool:
        """Return whether an address for agents accepts an operation at all."""

    def expect(self, request: web.Request) -> None:
        """Check that ``verify`` could succeed with some body; raises ``ApiError``."""

    def may_know(self, request: web.Request) -> bool:
        """Return whether ``knows`` could be true with some body."""

    def verify(self, request: web.Request, digest: str) -> None:
        """Check that the caller may act as an agent; raises ``ApiError``."""

    def knows(self, request: web.Request, digest: str) -> bool:
        """Return whether the call is signed with one of control's tokens, and tokens are required."""

    async def permit(self, operation: str, asked: dict[str, Any], request: web.Request) -> None:
        """Check that an agent may make this call; raises ``ApiError``."""

    async def call(
        self, operation: str, asked: dict[str, Any], raw: dict[str, Any], request: web.Request
    ) -> dict[str, Any]:
        """Answer a call; ``asked`` has the members that the model knows; raises ``ApiError``."""


class ServiceApi:
    """Answers the calls of one API; stateless, any number of calls run concurrently."""

    def __init__(  # noqa: PLR0913 - all parts of an API
        self,
        parts: Parts,
        model: ApiModel,
        handlers: Handlers,
        *,
        operators: Operators,
        check: Callable[[Mapping[str, Any]], None],
        agents: AgentSide | None = None,
        agents_only: bool = False,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        """Take the parts of an API.

        Args:
            parts: what handlers work with.
            model: the model of the API.
            handlers: the operations for operators.
            operators: decides who may call them.
            check: refuses more requests of operators than the model does.
            agents: the operations for agents; if None, there are none.
            agents_only: for an address that only serves agents.
            body_limit_bytes: larger bodies are refused.
            reasons: why operations that no handler is for are refused; not of all of them.

        Raises:
            ValueError: a handler is not for an operation of the API.
        """
        unknown = sorted(set(handlers) - model.operations)
        if unknown:
            raise ValueError(f"not operations of {model.title}: {', '.join(unknown)}")
        self._parts = parts
        self._model = model
        self._handlers = dict(handlers)
        self._reasons = reasons or {}
        self._operators = operators
        self._check_request = check
        self._permissions = Permissions(parts, model.name, self._handlers)
        self._agents = agents
        self._agents_only = agents_only
        self._codecs = Codecs(model)
        self._bodies = Bodies(body_limit_bytes)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call; never raises except for cancellation."""
        began = time.monotonic()
        progress = Progress(str(uuid.uuid4()))
        answer, error = await self._answer(request, progress)
        progress.note(self._parts, request, self._model, error)
        call = Call(self._model.name, self._counted(progress.operation), answer.status)
        self._parts.figures.called(call, time.monotonic() - began)
        return answer

    def _counted(self, operation: str) -> str:
        """Return the name under which an operation is counted: one that exists."""
        agents = self._agents
        is_known = operation in self._handlers or (
            agents is not None and agents.is_for_agents(operation)
        )
        return operation if is_known else OTHER

    async def _answer(
        self, request: web.Request, progress: Progress
    ) -> tuple[web.Response, ApiError | None]:
        """Return the answer, and the error that it tells."""
        request_id = progress.request_id
        target = request.headers.get("X-Amz-Target", "")
        progress.operation = target.rpartition(".")[2]
        about = {"target": target, "request_id": request_id}
        codec = self._codecs.of(request)
        try:
            response = await self._call(request, codec, progress)
            reply = codec.answer(progress.operation, response, request_id)
            progress.answered = response
            progress.size_bytes += len(reply.body)
            return _sent(reply), None
        except ApiError as error:
            failure: ApiError = error
        except StoreFailure as error:
            # Only operators and agents get this far; they may learn which disk is full or damaged.
            _log.error("store failed", **about, error=str(error))
            failure = ServerException(f"{error} (request {request_id})")
        except TimeoutError:
            _log.error("call timed out", **about)
            failure = _failed(request_id)
        except Exception:  # noqa: BLE001 - whatever fails, the client gets a response and others go on
            _log.exception("call failed", **about)
            failure = _failed(request_id)
        return _sent(codec.error(failure, request_id)), failure

    async def _call(self, request: web.Request, codec: Codec, progress: Progress) -> dict[str, Any]:
        """Answer a call; return the response."""
        # Without its body, a form names no operation, and then none for agents.
        named = self._named(request, codec)
        agents = self._agents
        for_agents = agents is not None and agents.serves(named)
        self._expect(request, named)
        raw_body = await self._body(request)
        admitted = self._let_in(request, named, await bodies.digest(raw_body))
        request[CALLER] = progress.caller = admitted.caller
        prove(request)
        body = await self._inflated(request, raw_body)
        if len(body) > _CHECK_IN_THREAD_BYTES:
            read = await asyncio.to_thread(self._read, request, codec, body, progress, for_agents)
        else:
            read = self._read(request, codec, body, progress, for_agents)
        operation, (checked, raw) = progress.operation, read
        progress.asked, progress.size_bytes = checked, len(body)
        if agents is not None and admitted.caller.type == AGENT:
            await agents.permit(operation, checked, request)
        call = AllowedCall(admitted.caller, admitted.grants)
        answering(call)
        calling.reached_by(request)
        async with asyncio.timeout(HANDLER_TIMEOUT_S):
            if admitted.grants is not None:
                needs = await self._permissions.check(
                    request, admitted.caller, admitted.grants, operation, checked
                )
                answering(call._replace(needs=needs))
            if agents is not None and for_agents:
                response = await agents.call(operation, checked, raw, request)
            else:
                response = await self._handler(operation)(self._parts, checked)
        return self._model.answer(operation, response)

    def _expect(self, request: web.Request, operation: str) -> None:
        """Check that the caller could be admitted, before its body is known.

        Raises:
            ApiError: no body could make the call acceptable, for an operator or an agent.
        """
        agents = self._agents
        if agents is not None and (self._agents_only or agents.serves(operation)):
            agents.expect(request)
            return
        try:
            self._operators.expect(request)
        except ApiError:
            if agents is None or not agents.may_know(request):
                raise

    def _let_in(self, request: web.Request, operation: str, digest: str) -> Admitted:
        """Return the caller, an operator or an agent.

        Raises:
            ApiError: the call is acceptable neither for an operator nor for an agent.
        """
        agents = self._agents
        if agents is not None and (self._agents_only or agents.serves(operation)):
            agents.verify(request, digest)
            return _AGENT
        try:
            return self._operators.admit(request, digest)
        except ApiError:
            # Amazon's agent makes some of the operators' calls, signed like all of its calls.
            if agents is None or not agents.knows(request, digest):
                raise
            return _AGENT

    def _handler(self, operation: str) -> Handler:
        handler = self._handlers.get(operation)
        if handler is None:
            reason = self._reasons.get(operation)
            raise UnsupportedFeatureException(
                f"The operation {operation} is not supported by this control endpoint"
                f"{f': {reason}' if reason else ''}."
            )
        return handler

    def _read(
        self,
        request: web.Request,
        codec: Codec,
        body: bytes,
        progress: Progress,
        for_agents: bool,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the request as checked and as it came; note its operation."""
        operation, raw = codec.read(request, body)
        progress.operation = operation
        # The model's check has already refused anything that is not an object.
        checked = self._model.check(operation, raw)
        if not for_agents:
            # Agents may repeat messages of the engine, which are cleaned, not refused.
            self._check_request(checked)
        return checked, raw

    def _named(self, request: web.Request, codec: Codec) -> str:
        if self._agents_only:
            _, _, target = request.headers.get("X-Amz-Target", "").partition(".")
            if not (self._agents and self._agents.is_for_agents(target)):
                raise NotServedHere
        return codec.named(request) or ""

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await self._bodies.read(request)
        except BodyRefused as error:
            raise _refusal(error) from None

    async def _inflated(self, request: web.Request, raw_body: bytes) -> bytes:
        try:
            return await self._bodies.inflate(request, raw_body)
        except BodyRefused as error:
            raise _refusal(error) from None


def _refusal(error: BodyRefused) -> ApiError:
    match error:
        case BodyTooLarge():
            return RequestEntityTooLargeException(f"The request is refused: {error}.")
        case BodyLate():
            return RequestTimeoutException("The request did not arrive in time.")
        case EncodingUnknown():
            return UnsupportedMediaTypeException(f"The request is refused: {error}.")
        case _:
            return SerializationException(f"The request cannot be read: {error}")


def _failed(request_id: str) -> ServerException:
    return ServerException(f"The request could not be completed. Request id: {request_id}")


def _sent(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
