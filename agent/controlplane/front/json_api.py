"""One API in the AWS JSON 1.1 protocol: an aiohttp handler for ``POST /``.

``X-Amz-Target: <prefix of the API>.<Operation>`` selects the handler. Every response has an
``x-amzn-RequestId``. An error is ``{"__type": ..., "message": ...}`` with ``x-amzn-ErrorType``. An
unexpected failure is a 500 ``ServerException`` with the request id, logged once, here.

``front.operators`` decides who may call, depending on the address of the request. Calls that agents
make need one of control's tokens instead (``agents.amazon``); an address for agents accepts no other
calls.

Tests: ``tests/unit/controlplane/api/ecs/test_json_api.py``,
``tests/unit/controlplane/front/test_bodies.py``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog
from aiohttp import web

from agent.controlplane import bounds
from agent.controlplane.front import bodies
from agent.controlplane.front.bodies import (
    Bodies,
    BodyLate,
    BodyRefused,
    BodyTooLarge,
    EncodingUnknown,
)
from agent.controlplane.front.errors import (
    ApiError,
    InvalidParameterException,
    NotServedHere,
    RequestEntityTooLargeException,
    RequestTimeoutException,
    SerializationException,
    ServerException,
    UnknownOperationException,
    UnsupportedFeatureException,
    UnsupportedMediaTypeException,
)
from agent.controlplane.monitoring.figures import OTHER, Call
from agent.controlplane.store.contract import StoreFailure
from agent.listening.connection import prove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.front.service_model import ApiModel
    from agent.controlplane.parts import Handler, Handlers, Parts

CONTENT_TYPE = "application/x-amz-json-1.1"
BODY_LIMIT_BYTES = 1024 * 1024
ITEMS_MOST = 10_000
"""For one list of a request; the longest list that ECS accepts has a thousand items."""
VALUES_MOST = 100_000
HANDLER_TIMEOUT_S = 60.0
_CHECK_IN_THREAD_BYTES = 32 * 1024
"""Checking a large request may take half a second; others must not wait for it."""

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

    def permit(self, operation: str, request: dict[str, Any]) -> None:
        """Check that an agent may make this call; raises ``ApiError``."""

    async def call(
        self, operation: str, asked: dict[str, Any], raw: dict[str, Any], request: web.Request
    ) -> dict[str, Any]:
        """Answer a call; ``asked`` has the members that the model knows; raises ``ApiError``."""


class OperatorSide(Protocol):
    """Decides who may use the endpoint; implemented in ``front.operators``."""

    def expect(self, request: web.Request, /) -> None:
        """Check that ``check`` could succeed with some body; raises ``ApiError``."""

    def check(self, request: web.Request, digest: str, /) -> object:
        """Check that the caller is admitted, by the SHA-256 of the body; raises ``ApiError``."""


class JsonApi:
    """Answers the calls of one API; stateless, any number of calls run concurrently."""

    def __init__(  # noqa: PLR0913 - all parts of an API
        self,
        parts: Parts,
        model: ApiModel,
        handlers: Handlers,
        *,
        operators: OperatorSide,
        check: Callable[[Mapping[str, Any]], None],
        agents: AgentSide | None = None,
        agents_only: bool = False,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
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

        Raises:
            ValueError: a handler is not for an operation of the API.
        """
        unknown = sorted(set(handlers) - model.operations)
        if unknown:
            raise ValueError(f"not operations of {model.title}: {', '.join(unknown)}")
        self._parts = parts
        self._model = model
        self._handlers = dict(handlers)
        self._operators = operators
        self._check_request = check
        self._agents = agents
        self._agents_only = agents_only
        self._bodies = Bodies(body_limit_bytes)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call; never raises except for cancellation."""
        began = time.monotonic()
        target = request.headers.get("X-Amz-Target", "")
        answer = await self._answer(request, target)
        call = Call(self._model.name, self._counted(target.rpartition(".")[2]), answer.status)
        self._parts.figures.called(call, time.monotonic() - began)
        return answer

    def _counted(self, operation: str) -> str:
        """Return the name under which an operation is counted: one that exists."""
        agents = self._agents
        is_known = operation in self._handlers or (
            agents is not None and agents.is_for_agents(operation)
        )
        return operation if is_known else OTHER

    async def _answer(self, request: web.Request, target: str) -> web.Response:
        request_id = str(uuid.uuid4())
        try:
            response = await self._call(request, target)
            return _answer(200, response, request_id)
        except ApiError as error:
            return _error(error, request_id)
        except StoreFailure as error:
            # Only operators and agents get this far; they may learn which disk is full or damaged.
            _log.error("store failed", target=target, request_id=request_id, error=str(error))
            return _error(ServerException(f"{error} (request {request_id})"), request_id)
        except TimeoutError:
            _log.error("call timed out", target=target, request_id=request_id)
        except Exception:  # noqa: BLE001 - whatever fails, the client gets a response and others go on
            _log.exception("call failed", target=target, request_id=request_id)
        return _error(
            ServerException(f"The request could not be completed. Request id: {request_id}"),
            request_id,
        )

    async def _call(self, request: web.Request, target: str) -> dict[str, Any]:
        operation = self._operation(target)
        if request.content_type != CONTENT_TYPE:
            raise UnsupportedMediaTypeException(f"The content type must be {CONTENT_TYPE}.")
        agents = self._agents
        for_agents = agents is not None and agents.serves(operation)
        self._expect(request, operation)
        raw_body = await self._body(request)
        as_agent = self._let_in(request, operation, await bodies.digest(raw_body))
        prove(request)
        body = await self._inflated(request, raw_body)
        if len(body) > _CHECK_IN_THREAD_BYTES:
            checked, raw = await asyncio.to_thread(self._check, operation, body, for_agents)
        else:
            checked, raw = self._check(operation, body, for_agents)
        if agents is not None and as_agent:
            agents.permit(operation, checked)
        async with asyncio.timeout(HANDLER_TIMEOUT_S):
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

    def _let_in(self, request: web.Request, operation: str, digest: str) -> bool:
        """Check that the caller may make the call; return whether it is an agent.

        Raises:
            ApiError: the call is acceptable neither for an operator nor for an agent.
        """
        agents = self._agents
        if agents is not None and (self._agents_only or agents.serves(operation)):
            agents.verify(request, digest)
            return True
        try:
            self._operators.check(request, digest)
        except ApiError:
            # Amazon's agent makes some of the operators' calls, signed like all of its calls.
            if agents is None or not agents.knows(request, digest):
                raise
            return True
        return False

    def _handler(self, operation: str) -> Handler:
        handler = self._handlers.get(operation)
        if handler is None:
            raise UnsupportedFeatureException(
                f"The operation {operation} is not supported by this control endpoint."
            )
        return handler

    def _check(
        self, operation: str, body: bytes, for_agents: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        raw = _decode(body)
        # The model's check has already refused anything that is not an object.
        checked = self._model.check(operation, raw)
        if not for_agents:
            # Agents may repeat messages of the engine, which are cleaned, not refused.
            self._check_request(checked)
        return checked, raw

    def _operation(self, target: str) -> str:
        prefix, _, operation = target.partition(".")
        if self._agents_only and not (self._agents and self._agents.is_for_agents(operation)):
            raise NotServedHere
        expected = self._model.target_prefix
        if prefix != expected or operation not in self._model.operations:
            raise UnknownOperationException(
                f"X-Amz-Target must be {expected}.<Operation> with an operation of "
                f"{self._model.title}."
            )
        return operation

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


def _decode(body: bytes) -> Any:
    if not body:
        return {}
    try:
        bounds.look(body, most_items=ITEMS_MOST, most_values=VALUES_MOST)
        return msgspec.json.decode(body)
    except bounds.OutOfBounds as error:
        raise InvalidParameterException(f"The request has {error}.") from None
    except (ValueError, RecursionError) as error:
        raise SerializationException(f"The request is not valid JSON: {error}") from None


def _answer(status: int, body: dict[str, Any], request_id: str) -> web.Response:
    response = web.Response(status=status, body=msgspec.json.encode(body))
    response.headers["Content-Type"] = CONTENT_TYPE
    response.headers["x-amzn-RequestId"] = request_id
    return response


def _error(error: ApiError, request_id: str) -> web.Response:
    response = _answer(error.status, {"__type": error.name, "message": str(error)}, request_id)
    response.headers["x-amzn-ErrorType"] = error.name
    return response
