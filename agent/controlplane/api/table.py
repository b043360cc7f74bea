"""Which APIs are served. To serve another one, write its package and add it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.controlplane.api.ecs import operations as ecs

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.parts import Handlers


class Api(NamedTuple):
    """One API in the JSON 1.1 protocol."""

    service: str
    """As in signatures and in botocore's data; its model there says the rest."""
    handlers: Callable[[], Handlers]
    """Makes the table of its operations; called once for each server."""


ECS = Api("ecs", ecs.handlers)
"""The default, and what agents speak."""

APIS: tuple[Api, ...] = (ECS,)
