"""Which calls a page may make, and which of them need no key.

Browsers send an ``Origin`` with each call that a page makes, and control refuses such calls otherwise
(``front.operators``). A call is admitted from a page of control itself, if it only reads. So another page can do
nothing, with or without the operator's key, and neither can a fault of the console change or stop anything. One call
does more: the terminal begins a session by ExecuteCommand, which must be signed; its WebSocket needs the token.

Where calls need no key, a name could lead the browser here that belongs to somebody else (DNS rebinding). There,
control must be called by an address, by ``localhost``, or with TLS, which proves the name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.caller import ROOT, Caller
from agent.controlplane.console.files import PREFIX
from agent.controlplane.execute_command.channel import PATH as SESSIONS
from agent.controlplane.front import signatures
from agent.controlplane.front.operators import Admitted, Operators, is_own_name
from agent.controlplane.front.signatures import SignedRequest

if TYPE_CHECKING:
    from aiohttp import web

    from agent.controlplane.names import Names


class Console(StrEnum):
    """Whether there is a console, and for whom."""

    OFF = "off"
    KEYS = "keys"
    """For operators, with their keys."""
    READ_ONLY = "read-only"
    """Everybody who can reach the address may read all that the console shows, without a key."""


_ECS: Final = "AmazonEC2ContainerServiceV20141113"
READS: Final = frozenset(
    {
        *(
            f"{_ECS}.{operation}"
            for operation in (
                "DescribeClusters",
                "DescribeContainerInstances",
                "DescribeServiceDeployments",
                "DescribeServices",
                "DescribeTaskDefinition",
                "DescribeTasks",
                "ListClusters",
                "ListContainerInstances",
                "ListServiceDeployments",
                "ListServices",
                "ListTasks",
            )
        ),
        "Logs_20140328.GetLogEvents",
        "GraniteServiceVersion20100801.GetMetricData",
    }
)
"""The calls of AWS's APIs that the page makes, as ``X-Amz-Target`` names them. All of them only read."""
COMMAND: Final = f"{_ECS}.ExecuteCommand"
"""The only call of the page that does more than read: for its terminal, and only with a key."""
OWN_READS: Final = frozenset({"/control/usage", "/control/changes"})
_JSON: Final = frozenset({"application/x-amz-json-1.0", "application/x-amz-json-1.1"})


def is_read(request: web.Request) -> bool:
    """Tell whether a call is one of those that the page makes, and cannot be taken for another."""
    is_own = request.method == "POST" and not request.query_string and request.path in OWN_READS
    return is_own or _target(request) in READS


def _target(request: web.Request) -> str:
    """Return the operation of a call that cannot be taken for another; empty for all others."""
    targets = request.headers.getall("X-Amz-Target", [])
    is_plain = (
        request.method == "POST"
        and not request.query_string
        and request.path == "/"
        and len(targets) == 1
        and request.content_type in _JSON
        and "Smithy-Protocol" not in request.headers
    )
    return targets[0] if is_plain else ""


def is_of_own_page(request: web.Request) -> bool:
    """Tell whether a call with an ``Origin`` comes from the console of this control, and may be made."""
    host = request.headers.get("Host", "").lower()
    _, _, origin = request.headers.get("Origin", "").lower().partition("://")
    if not host or origin != host:
        return False
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    if request.method == "GET":
        return request.path.startswith((PREFIX, SESSIONS))
    if _target(request) == COMMAND:
        return _is_signed(request)
    return is_read(request) and (_is_signed(request) or _has_proven_name(request))


class KeylessReaders(Operators):
    """Admits whoever reads what the console shows, besides the operators of an address."""

    def __init__(self, operators: Operators, names: Names) -> None:
        """Take those who decide about all other calls and all that are signed, and the names of control."""
        self._operators = operators
        self._anyone = Admitted(Caller(ROOT, "anyone", names.root()))
        """Policies say nothing about who has no key: what may be read is said here."""

    def expect(self, request: web.Request) -> None:
        """Return if a call may be made, whatever its body is; raises ``ApiError``."""
        if not self._needs_no_key(request):
            self._operators.expect(request)

    def admit(self, request: web.Request, digest: str) -> Admitted:
        """Return the caller; raises ``ApiError``."""
        if self._needs_no_key(request):
            return self._anyone
        return self._operators.admit(request, digest)

    def _needs_no_key(self, request: web.Request) -> bool:
        return is_read(request) and not _is_signed(request) and _has_proven_name(request)


def _is_signed(request: web.Request) -> bool:
    return signatures.is_signed(SignedRequest(request.method, request.raw_path, request.headers))


def _has_proven_name(request: web.Request) -> bool:
    return request.secure or is_own_name(request.headers.get("Host", ""))
