"""Whether a container has everything that its definition asks for. Pure.

Beside what ``tests.support.effects`` compares: what is fetched from elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.compatibility.world import FILE_VARIABLE
from tests.support import effects

if TYPE_CHECKING:
    from collections.abc import Mapping


def missing(
    definition: Mapping[str, Any], container: Mapping[str, Any], seen: Mapping[str, Any]
) -> list[str]:
    """Return what a container asks for and does not have; empty if it has everything.

    Args:
        definition: the task definition, as registered.
        container: the container's definition.
        seen: ``docker inspect`` of the container.
    """
    names = {entry.partition("=")[0] for entry in seen["Config"]["Env"]}
    fetched = {secret["name"] for secret in container.get("secrets", ())}
    if container.get("environmentFiles"):
        fetched.add(FILE_VARIABLE)
    return [
        *effects.missing(definition, container, seen),
        *(f"{name}: is not in the environment" for name in sorted(fetched - names)),
    ]
