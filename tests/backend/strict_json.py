"""JSON read without mercy: no NaN, no key twice, no null."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class NotStrict(ValueError):
    """The text is JSON only to the lenient."""


def loads(text: str | bytes, *, nulls: bool = False) -> Any:
    """Parse a document.

    Raises:
        NotStrict: it is not JSON, holds ``NaN`` or ``Infinity``, a key twice, or a null.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError:
        raise NotStrict("too deep") from None
    except ValueError as error:
        raise NotStrict(str(error)) from None
    if not nulls and (path := _null(value, "$")):
        raise NotStrict(f"null at {path}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise NotStrict(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotStrict(f"key {key!r} twice")
        found[key] = value
    return found


def _null(value: Any, path: str) -> str:
    if value is None:
        return path
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{k}", v) for k, v in value.items()]
    elif isinstance(value, list):
        children = [(f"{path}[{i}]", v) for i, v in enumerate(value)]
    return next((found for p, v in children if (found := _null(v, p))), "")
