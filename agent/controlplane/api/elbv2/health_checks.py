"""The health check of a target group, in requests and responses. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.elbv2 import requests
from agent.controlplane.api.elbv2.errors import (
    InvalidConfigurationRequestException,
    UnsupportedProtocolException,
    ValidationError,
)
from agent.controlplane.loadbalancing.balancer_records import TRAFFIC_PORT, HealthCheck

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODES: Final = re.compile(r"[2-4][0-9]{2}(-[2-4][0-9]{2})?(,[2-4][0-9]{2}(-[2-4][0-9]{2})?)*")
_PATH: Final = re.compile(r"/[!-~]{0,1023}")
_SHOWN: Final = 64
DEFAULTS: Final = {
    "HTTP": HealthCheck(),
    "TCP": HealthCheck(protocol="TCP", path="", matcher="", timeout_s=10),
}
"""By the protocol of the group."""


def read(request: Mapping[str, Any], old: HealthCheck) -> HealthCheck:
    """Return a health check with what a request says of it.

    Raises:
        ApiError: it is not valid, or cannot be done here.
    """
    if request.get("HealthCheckEnabled") is False:
        raise InvalidConfigurationRequestException(
            "Health checks cannot be disabled for target groups of this target type"
        )
    protocol = request.get("HealthCheckProtocol") or old.protocol
    if protocol not in ("HTTP", "HTTPS", "TCP"):
        raise UnsupportedProtocolException(
            f"HealthCheckProtocol '{protocol}' is not supported; use HTTP, HTTPS or TCP"
        )
    interval_s = requests.between(request, "HealthCheckIntervalSeconds", 5, 300, old.interval_s)
    timeout_s = requests.between(request, "HealthCheckTimeoutSeconds", 2, 120, old.timeout_s)
    if timeout_s >= interval_s:
        if "HealthCheckTimeoutSeconds" in request:
            raise ValidationError(
                f"Health check timeout '{timeout_s}' must be smaller than the interval '{interval_s}'"
            )
        timeout_s = interval_s - 1
    is_http = protocol != "TCP"
    for member in ("HealthCheckPath", "Matcher"):
        if request.get(member) and not is_http:
            raise InvalidConfigurationRequestException(
                f"{member} needs the HealthCheckProtocol HTTP or HTTPS; leave it out"
            )
    return HealthCheck(
        protocol=protocol,
        port=_port(request.get("HealthCheckPort") or old.port),
        path=_path(request, old) if is_http else "",
        matcher=_matcher(request, old) if is_http else "",
        interval_s=interval_s,
        timeout_s=timeout_s,
        healthy_threshold=requests.between(
            request, "HealthyThresholdCount", 2, 10, old.healthy_threshold
        ),
        unhealthy_threshold=requests.between(
            request, "UnhealthyThresholdCount", 2, 10, old.unhealthy_threshold
        ),
    )


def shown(check: HealthCheck) -> dict[str, Any]:
    """Return the members of a ``TargetGroup`` about its health check."""
    return {
        "HealthCheckProtocol": check.protocol,
        "HealthCheckPort": check.port,
        "HealthCheckEnabled": True,
        "HealthCheckIntervalSeconds": check.interval_s,
        "HealthCheckTimeoutSeconds": check.timeout_s,
        "HealthyThresholdCount": check.healthy_threshold,
        "UnhealthyThresholdCount": check.unhealthy_threshold,
        "HealthCheckPath": check.path or None,
        "Matcher": {"HttpCode": check.matcher} if check.matcher else None,
    }


def _port(given: str) -> str:
    if given != TRAFFIC_PORT and not (
        re.fullmatch("[0-9]{1,5}", given) and 1 <= int(given) <= requests.PORT_MOST
    ):
        raise ValidationError(
            f"Health check port '{given[:_SHOWN]}' must be '{TRAFFIC_PORT}' or 1 to "
            f"{requests.PORT_MOST}"
        )
    return given


def _path(request: Mapping[str, Any], old: HealthCheck) -> str:
    path: str = request.get("HealthCheckPath") or old.path or "/"
    if not _PATH.fullmatch(path):
        raise ValidationError(
            f"Health check path '{path[:_SHOWN]}' must begin with '/' and have at most 1024 printable "
            "ASCII characters, and no spaces"
        )
    return path


def _matcher(request: Mapping[str, Any], old: HealthCheck) -> str:
    given = request.get("Matcher") or {}
    if given.get("GrpcCode"):
        raise InvalidConfigurationRequestException(
            "Matcher.GrpcCode needs the protocol version GRPC"
        )
    codes: str = given.get("HttpCode") or old.matcher or "200"
    if not _CODES.fullmatch(codes) or len(codes) > 128:
        raise ValidationError(
            f"Health check matcher HTTP code '{codes[:_SHOWN]}' must be within '200-499' inclusive: "
            "codes or ranges of them, separated by commas"
        )
    return codes
