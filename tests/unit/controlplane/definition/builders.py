"""Task definitions of tests of the rules: small ones that pass, with changes."""

from __future__ import annotations

from typing import Any


def container(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return a container that passes, with changes."""
    return {"name": name, "image": "busybox", "memory": 16} | changes


def definition(*containers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a request that passes, with one container if none is given, and with changes."""
    return {"family": "web", "containerDefinitions": list(containers) or [container()]} | changes
