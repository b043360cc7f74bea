"""Tells the audit trail of calls that were answered. Costs the call a few microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.controlplane.audit.record import AuditedCall, is_recorded
from agent.controlplane.authorization.caller import Caller
from agent.controlplane.front.callers import identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from agent.controlplane.front.errors import ApiError
    from agent.controlplane.front.service_model import ApiModel
    from agent.controlplane.parts import Parts

OWN_SOURCE: Final = "control.ecs-host-agent"
"""Stands for the API in records of calls that no API of AWS has."""
_SOURCES: Final = {"application-autoscaling": "autoscaling"}
"""Names in CloudTrail that are not those of signatures."""


class Progress(Struct):
    """What is known of a call so far."""

    request_id: str
    operation: str = ""
    caller: Caller | None = None
    """None until the caller is known; such a call is not recorded."""
    asked: Any = None
    answered: Any = None
    size_bytes: int = 0

    def note(
        self,
        parts: Parts,
        request: web.Request,
        model: ApiModel,
        error: ApiError | None,
    ) -> None:
        """Have the call recorded, unless it is one that is not."""
        if parts.audit is None or self.caller is None or not is_recorded(self.operation):
            return
        is_known = self.operation in model.operations
        call = AuditedCall(
            **_common(parts, request, self.caller),
            source=f"{_SOURCES.get(model.signing_name, model.signing_name)}.amazonaws.com",
            operation=self.operation,
            request_id=self.request_id,
            asked=self.asked,
            answered=self.answered,
            asked_shape=model.input_shape(self.operation) if is_known else None,
            answered_shape=model.output_shape(self.operation) if is_known else None,
            error=error.name if error is not None else "",
            error_text=str(error) if error is not None else "",
        )
        parts.audit.note(call, self.size_bytes)


def note_plain(  # noqa: PLR0913 - what a record has
    parts: Parts,
    request: web.Request,
    caller: Caller,
    *,
    source: str = OWN_SOURCE,
    operation: str,
    request_id: str,
    asked: Mapping[str, Any],
    error: str = "",
    error_text: str = "",
) -> None:
    """Have a call recorded that no model describes; ``asked`` must have no secrets."""
    if parts.audit is None:
        return
    parts.audit.note(
        AuditedCall(
            **_common(parts, request, caller),
            source=source,
            operation=operation,
            request_id=request_id,
            plain=asked,
            error=error,
            error_text=error_text,
        )
    )


def _common(parts: Parts, request: web.Request, caller: Caller) -> dict[str, Any]:
    """Return what is known of every call."""
    return {
        "at": parts.clock(),
        "identity": identity(caller, parts.names),
        "region": parts.names.region,
        "account": parts.names.account,
        "peer": request.remote or "unix socket",
        "user_agent": request.headers.get("User-Agent", ""),
        "tls": _tls(request),
    }


def _tls(request: web.Request) -> dict[str, str] | None:
    """Return the details of a connection with TLS."""
    wire = request.transport.get_extra_info("ssl_object") if request.transport else None
    if wire is None:
        return None
    cipher = wire.cipher()
    return {
        "tlsVersion": wire.version() or "",
        "cipherSuite": cipher[0] if cipher else "",
        "clientProvidedHostHeader": request.headers.get("Host", ""),
    }
