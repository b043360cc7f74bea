"""Every operation of AWS Cloud Map that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.servicediscovery import (
    background,
    discovery,
    instances,
    namespaces,
    registries,
    tags,
)
from agent.controlplane.api.servicediscovery.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated(
        {
            **namespaces.HANDLERS,
            **registries.HANDLERS,
            **instances.HANDLERS,
            **discovery.HANDLERS,
            **background.HANDLERS,
            **tags.HANDLERS,
        },
        TRANSLATIONS,
    )
