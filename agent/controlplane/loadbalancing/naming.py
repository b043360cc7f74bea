"""ARNs of Elastic Load Balancing: made and parsed only here. Pure."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.controlplane.loadbalancing.balancer_records import APPLICATION, NETWORK, listener_key

if TYPE_CHECKING:
    from agent.controlplane.names import Names

_KINDS: Final = {APPLICATION: "app", NETWORK: "net"}
_NAME: Final = "[A-Za-z0-9-]{1,32}"
_ID: Final = "[0-9a-f]{16}"
_BALANCER: Final = re.compile(rf"loadbalancer/(?:app|net)/({_NAME})/{_ID}")
_LISTENER: Final = re.compile(rf"listener/(?:app|net)/({_NAME})/{_ID}/({_ID})")
_RULE: Final = re.compile(rf"listener-rule/(?:app|net)/({_NAME})/{_ID}/({_ID})/({_ID})")
_GROUP: Final = re.compile(rf"targetgroup/({_NAME})/{_ID}")


class ListenerName(NamedTuple):
    """What an ARN of a listener or of a rule names."""

    load_balancer: str
    """Name of the load balancer."""
    listener_id: str
    rule_id: str = ""
    """Empty for a listener."""


def new_id() -> str:
    """Return the id of a new load balancer, listener, rule or target group."""
    return secrets.token_hex(8)


def load_balancer_arn(names: Names, kind: str, name: str, balancer_id: str) -> str:
    """Return the ARN of a load balancer; ``kind`` is APPLICATION or NETWORK."""
    return f"{_prefix(names)}loadbalancer/{_KINDS[kind]}/{name}/{balancer_id}"


def listener_arn(load_balancer: str, listener_id: str) -> str:
    """Return the ARN of a listener of the load balancer with this ARN."""
    return f"{load_balancer.replace(':loadbalancer/', ':listener/')}/{listener_id}"


def rule_arn(listener: str, rule_id: str) -> str:
    """Return the ARN of a rule of the listener with this ARN."""
    return f"{listener.replace(':listener/', ':listener-rule/')}/{rule_id}"


def target_group_arn(names: Names, name: str, group_id: str) -> str:
    """Return the ARN of a target group."""
    return f"{_prefix(names)}targetgroup/{name}/{group_id}"


def parse_load_balancer(names: Names, arn: str) -> str | None:
    """Return the name in an ARN of a load balancer here; None if it is not one."""
    match = _BALANCER.fullmatch(_resource(names, arn))
    return match[1] if match else None


def parse_listener(names: Names, arn: str) -> ListenerName | None:
    """Return what an ARN of a listener or of a rule here names; None if it is not one."""
    resource = _resource(names, arn)
    if match := _LISTENER.fullmatch(resource):
        return ListenerName(match[1], match[2])
    match = _RULE.fullmatch(resource)
    return ListenerName(match[1], match[2], match[3]) if match else None


def listener_key_of(arn: str) -> str:
    """Return the key of the listener that its ARN, or that of one of its rules, names; the ARN was checked before."""
    _, _, load_balancer, _, listener_id = arn.split("/")[:5]
    return listener_key(load_balancer, listener_id)


def parse_target_group(names: Names, arn: str) -> str | None:
    """Return the name in an ARN of a target group here; None if it is not one."""
    match = _GROUP.fullmatch(_resource(names, arn))
    return match[1] if match else None


def target_group_id(arn: str) -> str:
    """Return the id in the ARN of a target group that exists."""
    return arn.rpartition("/")[2]


def target_group_name(arn: str) -> str:
    """Return the name in the ARN of a target group that exists."""
    return arn.split("/")[-2]


def _prefix(names: Names) -> str:
    return f"arn:{names.partition}:elasticloadbalancing:{names.region}:{names.account}:"


def _resource(names: Names, arn: str) -> str:
    """Return what follows control's own prefix; empty for an ARN of somebody else."""
    prefix = _prefix(names)
    return arn[len(prefix) :] if arn.startswith(prefix) else ""
