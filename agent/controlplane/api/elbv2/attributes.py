"""Attributes of load balancers and target groups: which there are, and which values are served. Pure.

Control itself heeds the protection from deletion and the delay of deregistration. The others that may have more
than one value are for a proxy, and change nothing while there is none. All others have one value, that of a new
load balancer of AWS, because clients such as Terraform set these.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.controlplane.api.elbv2.errors import InvalidConfigurationRequestException
from agent.controlplane.loadbalancing.balancer_records import (
    ALGORITHM,
    DEREGISTRATION_DELAY,
    IDLE_TIMEOUT,
    PROTECTION,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN: Final = 64
_SECONDS: Final = re.compile(r"[0-9]{1,6}")


class Attribute(NamedTuple):
    """One attribute."""

    default: str
    values: tuple[str, ...] = ()
    """What it may be besides its default."""
    range_s: tuple[int, int] | None = None
    """Of seconds: the least and the most."""

    def allows(self, value: str) -> bool:
        """Return whether it may have a value."""
        if self.range_s is not None and _SECONDS.fullmatch(value):
            return self.range_s[0] <= int(value) <= self.range_s[1]
        return value == self.default or value in self.values

    @property
    def allowed(self) -> str:
        """What it may be, for people."""
        if self.range_s is not None:
            return f"{self.range_s[0]} to {self.range_s[1]} seconds"
        return " or ".join(f"'{value}'" for value in (self.default, *self.values))


Attributes = dict[str, Attribute]

_OFF: Final = Attribute("false")
_BALANCER: Final[Attributes] = {
    PROTECTION: Attribute("false", ("true",)),
    "access_logs.s3.enabled": _OFF,
    "access_logs.s3.bucket": Attribute(""),
    "access_logs.s3.prefix": Attribute(""),
    "ipv6.deny_all_igw_traffic": _OFF,
    "zonal_shift.config.enabled": _OFF,
}
APPLICATION_BALANCER: Final[Attributes] = {
    **_BALANCER,
    IDLE_TIMEOUT: Attribute("60", range_s=(1, 4000)),
    "client_keep_alive.seconds": Attribute("3600"),
    "connection_logs.s3.enabled": _OFF,
    "connection_logs.s3.bucket": Attribute(""),
    "connection_logs.s3.prefix": Attribute(""),
    "health_check_logs.s3.enabled": _OFF,
    "health_check_logs.s3.bucket": Attribute(""),
    "health_check_logs.s3.prefix": Attribute(""),
    "load_balancing.cross_zone.enabled": Attribute("true"),
    "routing.http.desync_mitigation_mode": Attribute("defensive"),
    "routing.http.drop_invalid_header_fields.enabled": _OFF,
    "routing.http.preserve_host_header.enabled": Attribute("false", ("true",)),
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": _OFF,
    "routing.http.xff_client_port.enabled": _OFF,
    "routing.http.xff_header_processing.mode": Attribute("append"),
    "routing.http2.enabled": Attribute("true", ("false",)),
    "waf.fail_open.enabled": _OFF,
}
"""HTTP/2 is for listeners with TLS, so it has no meaning here."""
NETWORK_BALANCER: Final[Attributes] = {
    **_BALANCER,
    "load_balancing.cross_zone.enabled": Attribute("false", ("true",)),
    "dns_record.client_routing_policy": Attribute("any_availability_zone"),
    "secondary_ips.auto_assigned.per_subnet": Attribute("0"),
}
"""Targets are in no zones of load balancers here, so that both values mean the same."""
_GROUP: Final[Attributes] = {
    DEREGISTRATION_DELAY: Attribute("300", range_s=(0, 3600)),
    "stickiness.enabled": _OFF,
    "load_balancing.cross_zone.enabled": Attribute("use_load_balancer_configuration", ("true",)),
    "target_group_health.dns_failover.minimum_healthy_targets.count": Attribute("1"),
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": Attribute("off"),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": Attribute("1"),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": Attribute(
        "off"
    ),
}
HTTP_GROUP: Final[Attributes] = {
    **_GROUP,
    "stickiness.type": Attribute("lb_cookie", ("app_cookie",)),
    "stickiness.lb_cookie.duration_seconds": Attribute("86400", range_s=(1, 604800)),
    "stickiness.app_cookie.duration_seconds": Attribute("86400", range_s=(1, 604800)),
    "stickiness.app_cookie.cookie_name": Attribute(""),
    "slow_start.duration_seconds": Attribute("0"),
    ALGORITHM: Attribute("round_robin", ("least_outstanding_requests",)),
    "load_balancing.algorithm.anomaly_mitigation": Attribute("off"),
}
"""With stickiness off, its type and durations have no meaning."""
TCP_GROUP: Final[Attributes] = {
    **_GROUP,
    "stickiness.type": Attribute("source_ip"),
    "deregistration_delay.connection_termination.enabled": _OFF,
    "preserve_client_ip.enabled": _OFF,
    "proxy_protocol_v2.enabled": _OFF,
    "target_health_state.unhealthy.connection_termination.enabled": Attribute("true"),
    "target_health_state.unhealthy.draining_interval_seconds": Attribute("0"),
}

TCP_LISTENER: Final[Attributes] = {"tcp.idle_timeout.seconds": Attribute("350")}
HTTP_LISTENER: Final[Attributes] = {
    "routing.http.response.server.enabled": Attribute("true"),
    **{
        f"routing.http.response.{header}.header_value": Attribute("")
        for header in (
            "strict_transport_security",
            "access_control_allow_origin",
            "access_control_allow_methods",
            "access_control_allow_headers",
            "access_control_allow_credentials",
            "access_control_expose_headers",
            "access_control_max_age",
            "content_security_policy",
            "x_content_type_options",
            "x_frame_options",
        )
    },
}
"""No header of a response is added or taken away. The attributes that rename headers are for listeners with TLS."""


def checked(
    known: Attributes, given: Sequence[Mapping[str, str]], old: Mapping[str, str]
) -> dict[str, str]:
    """Return the attributes that were set before or now.

    Raises:
        InvalidConfigurationRequestException: there is no such attribute, or it cannot have that value here.
    """
    new = dict(old)
    for each in given:
        key, value = each.get("Key", ""), each.get("Value", "")
        attribute = known.get(key)
        if attribute is None:
            raise InvalidConfigurationRequestException(
                f"Attribute '{key[:_SHOWN]}' is not valid for this kind of resource, or not supported "
                "by this control endpoint"
            )
        if not attribute.allows(value):
            raise InvalidConfigurationRequestException(
                f"Attribute '{key}' cannot be '{value[:_SHOWN]}' on this control endpoint; it can be "
                f"{attribute.allowed}"
            )
        new[key] = value
    return new


def shown(known: Attributes, given: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return all attributes as Elastic Load Balancing lists them."""
    return [{"Key": key, "Value": given.get(key, of.default)} for key, of in known.items()]
