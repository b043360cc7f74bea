"""Hides values in requests and responses that no record may have.

A value is hidden when botocore's model marks its member or shape as sensitive, when the member has one of the names
below, or, in a map, when its key or its text looks like that of a password. Members get the names that CloudTrail has:
those of the model, beginning with a small letter.

Pure. Source of the text of a hidden value: records of CloudTrail, for example of ``RegisterTaskDefinition``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HIDDEN: Final = "HIDDEN_DUE_TO_SECURITY_REASONS"
_NAMES: Final = frozenset(
    {
        "clientsecret",
        "environment",
        "passphrase",
        "password",
        "privatekey",
        "secretaccesskey",
        "secretbinary",
        "secretstring",
        "sessiontoken",
        "tokenvalue",
    }
)
"""Of members, in small letters, that older models do not mark."""
_INPUTS: Final = frozenset({"Input", "InputTemplate"})
"""Of targets of schedules and rules: text that may have the environment of containers in it."""
_SECRET_KEY: Final = re.compile(r"pass|secret|token|credential|api.?key|auth|header", re.IGNORECASE)
"""Of maps, such as options of log drivers and of volumes."""
_SECRET_TEXT: Final = re.compile(r"pass(word|wd|phrase)?\s*=|://[^/@\s]+:[^/@\s]+@", re.IGNORECASE)
"""Options of mounts, and addresses with a password."""
_SHORTEST: Final = 4
"""A hidden text of fewer characters is not looked for in error texts: it would be found in other words."""
_DEEPEST: Final = 64


class Masked:
    """A value without what is hidden, and the texts that were."""

    def __init__(self) -> None:
        self.hidden: set[str] = set()

    def take(self, shape: Any, value: Any) -> Any:
        """Return a value of a shape as a record has it; ``shape`` may be None for one that is unknown."""
        if shape is None or value is None:
            return None
        return self._taken(shape, value, 0)

    def text(self, text: str) -> str:
        """Return a text without what was hidden before; errors may repeat what they refuse."""
        for secret in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def _taken(self, shape: Any, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            return self._hide(value)
        if shape.type_name == "structure" and isinstance(value, dict):
            return {
                _small(name): self._member(name, shape.members[name], each, depth)
                for name, each in value.items()
                if each is not None and name in shape.members
            }
        if shape.type_name == "list" and isinstance(value, list):
            return [self._member("", shape.member, each, depth) for each in value]
        if shape.type_name == "map" and isinstance(value, dict):
            return {key: self._entry(shape, key, each, depth) for key, each in value.items()}
        if shape.type_name == "blob" or isinstance(value, dict | list | bytes):
            return self._hide(value)
        return value

    def _member(self, name: str, shape: Any, value: Any, depth: int) -> Any:
        is_hidden = _is_sensitive(shape) or name.lower() in _NAMES or name in _INPUTS
        return self._hide(value) if is_hidden else self._taken(shape, value, depth + 1)

    def _entry(self, shape: Any, key: str, value: Any, depth: int) -> Any:
        is_hidden = _is_sensitive(shape.value) or (
            isinstance(value, str) and (_SECRET_KEY.search(key) or _SECRET_TEXT.search(value))
        )
        return self._hide(value) if is_hidden else self._taken(shape.value, value, depth + 1)

    def _hide(self, value: Any) -> str:
        self._keep(value)
        return HIDDEN

    def _keep(self, value: Any) -> None:
        """Remember the texts of a value that is hidden."""
        if isinstance(value, dict):
            for each in value.values():
                self._keep(each)
        elif isinstance(value, list):
            for each in value:
                self._keep(each)
        elif isinstance(value, str) and len(value) >= _SHORTEST:
            self.hidden.add(value)


def _is_sensitive(shape: Any) -> bool:
    metadata: Mapping[str, Any] = shape.metadata
    return bool(metadata.get("sensitive"))


def _small(name: str) -> str:
    """Return a member's name as CloudTrail has it; ``DNSName`` and the like keep their letters."""
    if name[1:2].isupper():
        return name
    return name[:1].lower() + name[1:]
