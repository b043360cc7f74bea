"""An API whose model is read at its first request, because it is large and few use it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.front.service_model import ApiModel

if TYPE_CHECKING:
    from aiohttp import web

    from agent.controlplane.api.table import Api, ApiNames
    from agent.controlplane.front.operators import Operators
    from agent.controlplane.parts import Parts


class DeferredApi:
    """Serves one API; any number of calls run concurrently."""

    def __init__(self, parts: Parts, api: Api, operators: Operators) -> None:
        """Take the parts; nothing is read before the first call.

        Raises:
            ValueError: the API does not say how it is named.
        """
        if api.named is None:
            raise ValueError(f"{api.service} has no names without its model")
        self.names: ApiNames = api.named
        self._parts = parts
        self._api = api
        self._operators = operators
        self._served: ServiceApi | None = None
        self._reading = asyncio.Lock()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call."""
        if self._served is None:
            async with self._reading:
                if self._served is None:
                    self._served = await self._read()
        return await self._served.handle(request)

    async def _read(self) -> ServiceApi:
        handlers = self._api.handlers()
        model = await asyncio.to_thread(ApiModel.load, self._api.service, frozenset(handlers))
        return ServiceApi(
            self._parts,
            model,
            handlers,
            operators=self._operators,
            check=self._api.check,
            body_limit_bytes=self._api.body_limit_bytes,
            reasons=self._api.reasons,
        )
