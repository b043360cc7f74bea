"""The aiohttp handler for all AWS clients: routes to a served service, sends on, or returns an error.

A client whose ``AWS_ENDPOINT_URL`` sends every service here gets, for other services, an error that
says which ones are served, in the format of the service that it meant.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from agent.controlplane.front import protocols
from agent.controlplane.front.codecs.cbor_rpc import service_of
from agent.controlplane.front.protocols import Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from agent.controlplane.front.forwarder import Forwarder
    from agent.controlplane.front.operators import Operators

    Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CODES = {
    Protocol.QUERY: "InvalidAction",
    Protocol.EC2: "InvalidAction",
    Protocol.S3: "NotImplemented",
}
_CODE = "UnknownOperationException"
_STATUS = 400
_NOT_SIGNED = {
    Protocol.JSON: ("MissingAuthenticationTokenException", 400),
    Protocol.QUERY: ("MissingAuthenticationToken", 403),
    Protocol.EC2: ("AuthFailure", 401),
    Protocol.S3: ("AccessDenied", 403),
}


class ServiceRouter:
    """Routes requests of AWS clients to the served services, or to others elsewhere; stateless."""

    def __init__(
        self,
        services: Mapping[str, Serve],
        targets: Mapping[str, str],
        *,
        default: str,
        variables: Mapping[str, str],
        forwarder: Forwarder | None = None,
        operators: Operators,
    ) -> None:
        """Take the served services.

        Args:
            services: the handler of each service, by the service's name in signatures.
            targets: names of services by the prefix of their ``X-Amz-Target``, which is also the name in
                the paths of CBOR.
            default: the service that answers a bare ``POST /`` with what is missing.
            variables: the usual names of the services, and the variables for their endpoints.
            forwarder: sends calls of other services on; None to refuse them.
            operators: decides whose calls are sent on.
        """
        self._services = dict(services)
        self._targets = dict(targets)
        self._default = self._services[default]
        self._forwarder = forwarder
        self._operators = operators
        self._titles = _listed(variables)
        self._variables = _listed(variables.values())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to any path.

        Raises:
            web.HTTPNotFound: no AWS client would send it.
        """
        addressed = protocols.addressed(
            request.headers, request.query, request.content_type, request.path
        )
        if addressed is None:
            if (request.method, request.path) == ("POST", "/"):
                return await self._default(request)
            raise web.HTTPNotFound
        target = request.headers.get("X-Amz-Target", "").rpartition(".")[0]
        # Prefer the target: unsigned and handmade requests have no usable signature.
        target = target or service_of(request.path)
        served = self._services.get(self._targets.get(target, addressed.service))
        if served is not None:
            return await served(request)
        forwarder = self._forwarder
        goes_to = None if forwarder is None else forwarder.target(addressed.service)
        if forwarder is not None and goes_to is not None:
            return await forwarder.answer(request, addressed, goes_to, self._operators)
        is_signed = "Authorization" in request.headers or "X-Amz-Credential" in request.query
        return self._not_served(addressed, is_signed=is_signed)

    def _not_served(self, addressed: protocols.Addressed, *, is_signed: bool) -> web.Response:
        request_id = str(uuid.uuid4())
        code, status = _CODES.get(addressed.protocol, _CODE), _STATUS
        if not is_signed:
            # A signature would name the service.
            code, status = _NOT_SIGNED.get(addressed.protocol, _NOT_SIGNED[Protocol.JSON])
        error = protocols.error(
            addressed.protocol,
            code,
            f"{'' if is_signed else 'Missing Authentication Token. '}This endpoint serves {self._titles}, not {addressed.service}. Set "
            f"{self._variables} instead of AWS_ENDPOINT_URL, so that nothing else is sent here.",
            request_id,
        )
        headers = {"Content-Type": error.content_type, "x-amzn-RequestId": request_id}
        return web.Response(status=status, body=error.body, headers=headers | dict(error.headers))


def _listed(names: Iterable[str]) -> str:
    """Return names as a sentence has them: ``a, b and c``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
