"""Syntax of settings that name images and registries.

Pure. Parsers raise ``ValueError`` as those of ``values`` do.

Tests: ``tests/unit/config/test_image_settings.py``.
"""

from __future__ import annotations

import json
import re
from typing import Final

from agent.config.values import Kind

_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_REGISTRY: Final = re.compile(_HOST)
_MIRROR: Final = re.compile(rf"({_HOST})(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_EXAMPLE: Final = '{"docker.io": "mirror.example:5000"}'


def parse_mirrors(text: str) -> dict[str, str]:
    """Parse a JSON map of registries to their mirrors."""
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"is not valid JSON; write for example {_EXAMPLE}") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError(f"is not a JSON map of texts; write for example {_EXAMPLE}")
    for registry, mirror in found.items():
        if not _REGISTRY.fullmatch(registry):
            raise ValueError(
                f'has the registry "{registry}"; write its host, and its port if image names have '
                "one, without https://"
            )
        named = _MIRROR.fullmatch(mirror)
        if named is None or not is_registry(named[1]):
            raise ValueError(
                f'has the mirror "{mirror}"; write host, port and path as in image names, without '
                "https:// (a host without a dot needs a port)"
            )
    return found


def is_registry(host: str) -> bool:
    """Tell whether the first part of an image name is a registry, as the engine decides it."""
    return "." in host or ":" in host or host == "localhost"


def parse_names(text: str) -> tuple[str, ...]:
    """Parse image names that are separated by commas."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in found:
        if re.search(r"\s", name):
            raise ValueError("has a name with a space in it; separate names with commas")
    return found


MIRRORS: Final = Kind("JSON map of registries", parse_mirrors)
NAMES: Final = Kind("names, separated by commas", parse_names)
