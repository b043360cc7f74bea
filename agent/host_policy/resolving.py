"""Where paths of the host lead, as the kernel follows symbolic links now.

The engine follows them again when a container starts, so the agent asks before each start. Between both,
whoever can write to a directory on the way could still exchange a part of it; ``docs/host-policy.md`` says how
a policy closes that.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from agent.host_policy.paths import normal

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT_S: Final = 10.0
"""How long a file system may take; after that, its paths count as unknown, and are refused."""


async def resolved(paths: Iterable[str]) -> dict[str, str]:
    """Return where each absolute path leads, by ``paths.normal``; one that cannot be told is left out."""
    wanted = sorted({normal(path) for path in paths if path.startswith("/") and "\0" not in path})
    if not wanted:
        return {}
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(LIMIT_S):
            await asyncio.to_thread(_resolve, wanted, found)
    except TimeoutError:
        pass  # what was found until then is known
    return dict(found)


def _resolve(paths: list[str], found: dict[str, str]) -> None:
    for path in paths:
        try:
            found[path] = os.path.realpath(path)
        except (OSError, ValueError):  # a file system that does not answer, a name too long
            continue
