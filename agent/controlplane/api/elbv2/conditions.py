"""Conditions of rules, in requests and responses. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.elbv2.errors import ValidationError
from agent.controlplane.front.errors import UnsupportedFeatureException
from agent.controlplane.loadbalancing.balancer_records import ConditionRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VALUES_MOST: Final = 5
"""Of all conditions of a rule together; Amazon's quota."""
_SHOWN: Final = 64
_VALUE: Final = re.compile(r"[ -~]{1,128}")
_METHOD: Final = re.compile(r"[A-Z_-]{1,40}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}")
_CONFIGS: Final = {
    "host-header": "HostHeaderConfig",
    "path-pattern": "PathPatternConfig",
    "http-header": "HttpHeaderConfig",
    "query-string": "QueryStringConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "source-ip": "SourceIpConfig",
}
"""The member of a condition that has its values, by its field."""
_PLAIN: Final = ("host-header", "path-pattern")
"""Fields whose values may also be in ``Values``."""
_MANY: Final = ("http-header", "query-string")
"""Fields of which a rule may have more than one condition."""


def read(given: Sequence[Mapping[str, Any]]) -> list[ConditionRecord]:
    """Return the conditions of a rule; raises ``ApiError``."""
    if not given:
        raise ValidationError("At least one condition must be specified")
    found = [_condition(each) for each in given]
    for kind, count in Counter(each.kind for each in found).items():
        if count > 1 and kind not in _MANY:
            raise ValidationError(f"A rule can only have one '{kind}' condition")
    if sum(len(each.values) + len(each.pairs) for each in found) > VALUES_MOST:
        raise ValidationError(f"A rule can only have '{VALUES_MOST}' condition values")
    return found


def shown(condition: ConditionRecord) -> dict[str, Any]:
    """Return a condition as Elastic Load Balancing lists it."""
    config: dict[str, Any] = {"Values": condition.pairs or condition.values}
    if condition.header:
        config["HttpHeaderName"] = condition.header
    told: dict[str, Any] = {"Field": condition.kind, _CONFIGS[condition.kind]: config}
    if condition.kind in _PLAIN:
        told["Values"] = condition.values
    return told


def _condition(given: Mapping[str, Any]) -> ConditionRecord:
    kind = given.get("Field") or next(
        (field for field, member in _CONFIGS.items() if given.get(member)), ""
    )
    if kind not in _CONFIGS:
        raise ValidationError(
            f"Condition field '{kind[:_SHOWN]}' must be one of '[{', '.join(_CONFIGS)}]'"
        )
    config = given.get(_CONFIGS[kind]) or {}
    _check_members(given, kind)
    if given.get("RegexValues") or config.get("RegexValues"):
        raise UnsupportedFeatureException(
            "RegexValues is not supported by this control endpoint; use Values."
        )
    if kind == "query-string":
        return ConditionRecord(kind=kind, pairs=[_pair(each) for each in _some(config, kind)])
    values = _some(config, kind) if config else _some(given, kind)
    header = config.get("HttpHeaderName") or ""
    if kind == "http-header" and not _HEADER.fullmatch(header):
        raise ValidationError(f"The HTTP header name '{header[:_SHOWN]}' is not valid")
    return ConditionRecord(kind=kind, values=[_value(kind, each) for each in values], header=header)


def _check_members(given: Mapping[str, Any], kind: str) -> None:
    """Refuse what a condition of this kind would not use."""
    own = _CONFIGS[kind]
    others = [member for member in _CONFIGS.values() if member != own]
    for member in others if kind in _PLAIN else [*others, "Values"]:
        if given.get(member):
            raise ValidationError(f"A '{kind}' condition cannot have {member}; leave it out")
    if given.get("Values") and given.get(own) and given["Values"] != given[own].get("Values"):
        raise ValidationError(f"Values and {own} of a condition must be the same")


def _some(config: Mapping[str, Any], kind: str) -> list[Any]:
    values: list[Any] = config.get("Values") or []
    if not values:
        raise ValidationError(f"A '{kind}' condition must have values")
    return values


def _pair(given: Mapping[str, str]) -> dict[str, str]:
    key, value = given.get("Key") or "", given.get("Value") or ""
    _value("query-string", value)
    if key:
        _value("query-string", key)
    return {"Key": key, "Value": value} if key else {"Value": value}


def _value(kind: str, value: str) -> str:
    if kind == "source-ip":
        try:
            return str(ipaddress.ip_network(value, strict=False))
        except ValueError:
            raise ValidationError(f"CIDR block '{value[:_SHOWN]}' is not valid") from None
    pattern = _METHOD if kind == "http-request-method" else _VALUE
    if not pattern.fullmatch(value):
        raise ValidationError(
            f"The condition value '{value[:_SHOWN]}' of '{kind}' contains a character that is not "
            "valid, or has not 1 to 128 characters"
        )
    return value
