"""What can be made to go wrong with an answer of the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Match = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Refuse:
    """Answer with an error of AWS; nothing was done."""

    code: str
    message: str = "as the test asked"
    status: int = 400
    prefix: str = ""
    """In front of the code in the answer, as some services write their namespace."""


@dataclass(frozen=True)
class Answer:
    """Answer with these very bytes; nothing was done."""

    body: bytes
    status: int = 200
    content_type: str = "application/x-amz-json-1.1"
    code: str = "(made up)"


@dataclass(frozen=True)
class Half:
    """Do what was asked, then break off in the middle of the answer."""


@dataclass(frozen=True)
class Drop:
    """Cut the connection without an answer; nothing was done."""


@dataclass(frozen=True)
class Delay:
    """Do what was asked and answer, but late."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """Never answer."""


Fault = Refuse | Answer | Half | Drop | Delay | Hang

THROTTLED = Refuse("ThrottlingException", "Rate exceeded")
SERVER_ERROR = Refuse("ServerException", "Service Unavailable. Please try again later.", 500)
INVALID = Refuse("InvalidParameterException", "Invalid parameter.")
NO_CLUSTER = Refuse("ClusterNotFoundException", "Cluster not found.")
DENIED = Refuse("AccessDeniedException", "not authorized to perform this")
HTML = Answer(b"<html><body>502 Bad Gateway</body></html>", 502, "text/html")
HTML_OK = Answer(b"<html><body>Welcome to the hotel</body></html>", 200, "text/html")


@dataclass
class Scripted:
    """A fault and for which calls it is meant."""

    fault: Fault
    left: int
    """How many more calls it hits; -1 for all."""
    matches: Match = field(default=lambda request: True)


class Script:
    """Faults per operation, used up in the order given."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Scripted]] = {}

    def add(self, operation: str, fault: Fault, times: int, matches: Match | None) -> Scripted:
        """Plan a fault; ``*`` is every operation."""
        scripted = Scripted(fault, times, matches or (lambda request: True))
        self._waiting.setdefault(operation, []).append(scripted)
        return scripted

    def clear(self) -> None:
        """Let everything go well again."""
        self._waiting.clear()

    def take(self, operation: str, request: dict[str, Any]) -> Fault | None:
        """Return what is to go wrong with this call."""
        for planned in (*self._waiting.get(operation, ()), *self._waiting.get("*", ())):
            if planned.left and planned.matches(request):
                planned.left -= 1
                fault: Fault = planned.fault
                return fault
        return None
