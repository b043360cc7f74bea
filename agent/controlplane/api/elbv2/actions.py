"""Actions of listeners and rules, in requests and responses. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.elbv2 import requests
from agent.controlplane.api.elbv2.errors import (
    InvalidLoadBalancerActionException,
    TooManyActionsException,
    ValidationError,
)
from agent.controlplane.front.errors import UnsupportedFeatureException
from agent.controlplane.loadbalancing.balancer_records import (
    FIXED_RESPONSE,
    FORWARD,
    REDIRECT,
    ActionRecord,
    WeightedGroup,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUPS_MOST: Final = 5
WEIGHT_MOST: Final = 999
_SHOWN: Final = 64
_CODE: Final = re.compile(r"[245][0-9]{2}")
_CONTENT_TYPES: Final = (
    *("text/plain", "text/css", "text/html"),
    *("application/javascript", "application/json"),
)
_PART: Final = re.compile(r"[!-~]{1,128}")
_MEMBERS: Final = {
    FORWARD: ("TargetGroupArn", "ForwardConfig"),
    REDIRECT: ("RedirectConfig",),
    FIXED_RESPONSE: ("FixedResponseConfig",),
}
"""What an action of a type may have besides ``Type`` and ``Order``."""
_REDIRECT: Final = {
    "Protocol": "#{protocol}",
    "Port": "#{port}",
    "Host": "#{host}",
    "Path": "/#{path}",
    "Query": "#{query}",
}
"""What each part is if it is not given: as in the request."""


def read(given: Sequence[Mapping[str, Any]], *, is_http: bool) -> ActionRecord:
    """Return the action of a rule.

    Args:
        given: the actions of a request; here there can be only one, because nothing authenticates users.
        is_http: whether it is one of an application load balancer.

    Raises:
        ApiError: it is not valid, or not served here.
    """
    if not given:
        raise ValidationError("At least one action must be specified")
    for each in given:
        if each["Type"] not in (FORWARD, REDIRECT, FIXED_RESPONSE):
            raise UnsupportedFeatureException(
                f"The action type '{each['Type']}' is not supported by this control endpoint; use "
                "forward, redirect or fixed-response."
            )
    if len(given) > 1:
        raise TooManyActionsException("You have specified more than one action of a rule")
    action = given[0]
    kind = action["Type"]
    for member, value in action.items():
        if value and member not in ("Type", "Order", *_MEMBERS[kind]):
            raise InvalidLoadBalancerActionException(
                f"{member} is not valid for an action of the type '{kind}'; leave it out"
            )
    if kind == FORWARD:
        return ActionRecord(kind=FORWARD, groups=_groups(action))
    if not is_http:
        raise InvalidLoadBalancerActionException(
            f"Action '{kind}' is only valid for application load balancers; use forward"
        )
    if kind == REDIRECT:
        return ActionRecord(kind=REDIRECT, settings=_redirect(action.get("RedirectConfig") or {}))
    config = action.get("FixedResponseConfig") or {}
    return ActionRecord(kind=FIXED_RESPONSE, settings=_fixed_response(config))


def shown(action: ActionRecord, *, order: bool = False) -> list[dict[str, Any]]:
    """Return an action as Elastic Load Balancing lists it; ``order`` as in rules."""
    told: dict[str, Any] = {"Type": action.kind}
    if order:
        told["Order"] = 1
    if action.kind == REDIRECT:
        told["RedirectConfig"] = action.settings
    elif action.kind == FIXED_RESPONSE:
        told["FixedResponseConfig"] = action.settings
    else:
        if len(action.groups) == 1:
            told["TargetGroupArn"] = action.groups[0].target_group_arn
        told["ForwardConfig"] = {
            "TargetGroups": [
                {"TargetGroupArn": group.target_group_arn, "Weight": group.weight}
                for group in action.groups
            ],
            "TargetGroupStickinessConfig": {"Enabled": False},
        }
    return [told]


def _groups(action: Mapping[str, Any]) -> list[WeightedGroup]:
    config = action.get("ForwardConfig") or {}
    if (config.get("TargetGroupStickinessConfig") or {}).get("Enabled"):
        raise UnsupportedFeatureException(
            "TargetGroupStickinessConfig is not supported by this control endpoint; leave it out."
        )
    listed = config.get("TargetGroups") or []
    single = action.get("TargetGroupArn")
    if single and listed and [each.get("TargetGroupArn") for each in listed] != [single]:
        raise InvalidLoadBalancerActionException(
            "You cannot specify both a target group ARN and a forward config with different target "
            "groups"
        )
    if not listed:
        listed = [{"TargetGroupArn": single}]
    if len(listed) > GROUPS_MOST:
        raise InvalidLoadBalancerActionException(
            f"A forward action can have at most {GROUPS_MOST} target groups"
        )
    groups = []
    for each in listed:
        if not each.get("TargetGroupArn"):
            raise ValidationError("A target group ARN must be specified")
        weight = requests.between(each, "Weight", 0, WEIGHT_MOST, 1)
        groups.append(WeightedGroup(target_group_arn=each["TargetGroupArn"], weight=weight))
    if len({group.target_group_arn for group in groups}) < len(groups):
        raise InvalidLoadBalancerActionException(
            "A target group can be specified once in a forward action"
        )
    return groups


def _redirect(config: Mapping[str, Any]) -> dict[str, str]:
    if not config.get("StatusCode"):
        raise ValidationError("A redirect status code must be specified")
    parts = {name: config.get(name, default) for name, default in _REDIRECT.items()}
    for name, value in parts.items():
        if not _PART.fullmatch(value) and not (name == "Query" and value == ""):
            raise InvalidLoadBalancerActionException(
                f"The {name} '{value[:_SHOWN]}' of a redirect is not valid: it has 1 to 128 printable "
                "ASCII characters, and no spaces"
            )
    if parts["Protocol"] not in ("HTTP", "HTTPS", "#{protocol}"):
        raise InvalidLoadBalancerActionException(
            "The protocol of a redirect must be HTTP, HTTPS or #{protocol}"
        )
    port = parts["Port"]
    if port != _REDIRECT["Port"] and not (port.isascii() and port.isdigit()):
        raise InvalidLoadBalancerActionException(
            f"The port of a redirect must be 1 to {requests.PORT_MOST} or #{{port}}"
        )
    if port.isdigit():
        requests.port(int(port), "Port of a redirect")
    if not parts["Path"].startswith("/"):
        raise InvalidLoadBalancerActionException("The path of a redirect must begin with '/'")
    if parts == _REDIRECT:
        raise InvalidLoadBalancerActionException(
            "The redirect configuration is not valid because it creates a loop"
        )
    return {**parts, "StatusCode": config["StatusCode"]}


def _fixed_response(config: Mapping[str, Any]) -> dict[str, str]:
    code = config.get("StatusCode") or ""
    if not _CODE.fullmatch(code):
        raise InvalidLoadBalancerActionException(
            f"The status code '{code[:_SHOWN]}' of a fixed response must be 2XX, 4XX or 5XX"
        )
    kind = config.get("ContentType") or "text/plain"
    if kind not in _CONTENT_TYPES:
        raise InvalidLoadBalancerActionException(
            f"The content type '{kind[:_SHOWN]}' of a fixed response must be one of "
            f"{', '.join(_CONTENT_TYPES)}"
        )
    body = config.get("MessageBody") or ""
    if len(body) > 1024 or "\0" in body:
        raise InvalidLoadBalancerActionException(
            "The message body of a fixed response has at most 1024 characters, and no NUL"
        )
    return {"StatusCode": code, "ContentType": kind, "MessageBody": body}
