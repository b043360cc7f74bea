"""Creates the container of one sandbox, which runs the pause program alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import NoSuchImage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from agent.runtime.protocol import ContainerEngine

LABEL: Final = "ecs-host-agent.container-sandbox"
"""Label of every such sandbox; the value is the owner."""
_log = structlog.get_logger(__name__)


def body(image: str, mode: str, owner: str) -> dict[str, Any]:
    """Return the create body of a sandbox. Pure."""
    return {
        "Image": image,
        "Labels": {LABEL: owner},
        "HostConfig": {
            "NetworkMode": mode,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
        },
    }


async def create(
    runtime: ContainerEngine,
    name: str,
    wanted: dict[str, Any],
    load_image: Callable[[], Awaitable[object]],
) -> str:
    """Create the container and return its engine id; loads the pause image if that was removed.

    Raises:
        RuntimeFailure: the engine refused, is down, or did not answer. Then the container may exist.
    """
    try:
        return await runtime.create_container(name, wanted)
    except NoSuchImage:
        _log.warning("the pause image was removed; loading it again", image=wanted["Image"])
        await load_image()
    return await runtime.create_container(name, wanted)
