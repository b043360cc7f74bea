"""Which APIs are served. To serve another one, write its package and add it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.controlplane.api.ecs import characters
from agent.controlplane.api.ecs import operations as ecs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Handlers


def _anything(_request: Mapping[str, Any]) -> None:
    """Take whatever the model lets through."""


class Api(NamedTuple):
    """One API in the JSON 1.1 protocol."""

    service: str
    """As in signatures and in botocore's data; its model there says the rest."""
    handlers: Callable[[], Handlers]
    """Makes the table of its operations; called once for each server."""
    check: Callable[[Mapping[str, Any]], None] = _anything
    """Refuses what its model lets operators send and it does not take; raises ``ApiError``."""


ECS = Api("ecs", ecs.handlers, characters.check)
"""The default, and what agents speak."""

APIS: tuple[Api, ...] = (ECS,)
