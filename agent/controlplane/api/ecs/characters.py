r"""Control characters in requests of operators: refused with the path of the field. Pure.

NUL is not possible in an argument, a variable, a path or a label of any container. Control characters
in a name, an image or a host name would only fail, or be invisible, later. Commands, values of
variables, labels and options are free text: they may have tabs, line breaks and any script's marks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent import escapes
from agent.controlplane.front.errors import InvalidParameterException

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN: Final = 64
_LINE: Final = re.compile(f"[{escapes.CONTROLS}]")
_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_TEXTS: Final = re.compile(
    r"(?:^|\.)(?:command\[\]|entryPoint\[\]|environment\[\]\.value|reason)$"
    r"|\.(?:dockerLabels|options|driverOpts|labels)\."
)
"""Paths, without indexes, of fields with free text; for a map, all of its values."""


def check(request: Mapping[str, Any]) -> None:
    """Check that no text of a request has a forbidden control character.

    Args:
        request: after the check by the ECS model.

    Raises:
        InvalidParameterException: one has; the message names the field and shows the character.
    """
    for name, value in request.items():
        _check(value, name, name)


def _check(value: Any, where: str, kind: str) -> None:
    """Check a value at a path: ``where`` as shown to users, ``kind`` without indexes."""
    if isinstance(value, str):
        found = (_TEXT if _TEXTS.search(kind) else _LINE).search(value)
        if found is not None:
            raise InvalidParameterException(
                f"Value at '{where}' contains the control character {escapes.escape(found[0])}, which "
                "is not allowed there."
            )
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_name(name, where)
            _check(item, f"{where}.{name}", f"{kind}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", f"{kind}[]")


def _check_name(name: str, where: str) -> None:
    found = _LINE.search(name)
    if found is not None:
        raise InvalidParameterException(
            f"The name '{escapes.shown(name[:_SHOWN])}' at '{where}' contains the control character "
            f"{escapes.escape(found[0])}, which is not allowed there."
        )
