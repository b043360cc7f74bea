"""What a policy refuses: the rule, the container and the value. Pure data and texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.config.host_policy import HostPolicy

SHOWN: Final = 120
"""Longest value in a refusal, in characters."""


class Refusal(NamedTuple):
    """One thing that a rule refuses."""

    rule: str
    """The key of the policy file."""
    what: str
    """Follows "container NAME" or "the task": "asks for privileged mode"."""
    container: str = ""
    """Empty for the task as a whole."""

    @property
    def text(self) -> str:
        """The refusal without the policy that it comes from."""
        who = f"container {self.container}" if self.container else "the task"
        return f"rule {self.rule}: {who} {self.what}"


Refusals: TypeAlias = Iterator[Refusal]


def reason(policy: HostPolicy, refusals: Sequence[Refusal]) -> str:
    """Return the reason of a refused task: the first refusal, and how many there are more."""
    more = len(refusals) - 1
    rest = f" (and {more} more)" if more else ""
    return f"host policy {policy.source}: {refusals[0].text}{rest}"


def shown(value: Any) -> str:
    """Return a value as a refusal shows it: printable and not long."""
    text = value if isinstance(value, str) else str(value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class Unreadable(Exception):
    """A part of a request is not what the engine takes; the text says which."""


def folded(part: Any, what: str) -> Mapping[str, Any]:
    """Return the members of an object by their names in lower case, as the engine reads them.

    Raises:
        Unreadable: it is no object, or has a member twice, of which the engine would take the last.
    """
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise Unreadable(f"{what} is not an object")
    found: dict[str, Any] = {}
    for key, value in part.items():
        # Like the engine, which also takes the long s for an s and the Kelvin sign for a k.
        name = str(key).casefold()
        if name in found:
            raise Unreadable(f"{what} has {shown(key)} twice")
        found[name] = value
    return found


def texts(value: Any, what: str) -> list[str]:
    """Return a list of texts, empty for none; raises ``Unreadable``."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unreadable(f"{what} is not a list of texts")
    return value


def objects(value: Any, what: str) -> list[Mapping[str, Any]]:
    """Return a list of objects with folded names, empty for none; raises ``Unreadable``."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unreadable(f"{what} is not a list")
    return [folded(each, what) for each in value]


def text(value: Any, what: str) -> str:
    """Return a text, empty for none; raises ``Unreadable``."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"{what} is not a text")
    return value


def number(value: Any, what: str) -> int:
    """Return a whole number, 0 for none; raises ``Unreadable``."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(f"{what} is not a whole number")
    return value
