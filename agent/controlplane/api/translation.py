"""Errors of what an API works on, as errors of that API's service.

Stores and keepers know nothing of APIs. Each package has a table of what their errors are in its service,
and the text goes to the client as it is unless the table has another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.parts import Handler, Handlers, Parts

Translations = Mapping[type[Exception], "Callable[[str], ApiError]"]
"""What makes the service's error from the text of one; the first kind that fits counts."""


def translated(handlers: Handlers, translations: Translations) -> Handlers:
    """Return handlers that fail with errors of the service; others pass unchanged."""
    return {name: _translated(handler, translations) for name, handler in handlers.items()}


def _translated(handler: Handler, translations: Translations) -> Handler:
    kinds = tuple(translations)

    @functools.wraps(handler)
    async def call(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await handler(parts, request)
        except kinds as error:
            make = next(translations[kind] for kind in kinds if isinstance(error, kind))
            raise make(str(error)) from None

    return call
