"""Who may assume a role, by the role's trust policy. Pure.

Source: "IAM JSON policy elements: Principal"; "Cross-account policy evaluation logic" (for one account).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.caller import USER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.controlplane.authorization.caller import Caller
    from agent.controlplane.authorization.policy import Statement

    Values = Mapping[str, tuple[str, ...]]

ASSUME: Final = "sts:AssumeRole"
_AWS, _SERVICE = "AWS", "Service"


class Trust(Enum):
    """What a trust policy says of somebody."""

    NONE = "none"
    """It does not let them in, or denies them."""
    ACCOUNT = "account"
    """It leaves it to policies of the caller, because it names the account."""
    FULL = "full"
    """It lets them in, whatever their own policies allow; they may still deny it."""


def of_service(statements: Sequence[Statement], service: str, values: Values) -> bool:
    """Return whether a service, such as ``ecs-tasks.amazonaws.com``, may assume a role."""
    return _allowed(statements, _SERVICE, {service, "*"}, values)


def of_caller(statements: Sequence[Statement], caller: Caller, values: Values) -> Trust:
    """Return what the trust policy of a role says of a caller of the same account."""
    partition, account = caller.arn.split(":")[1], caller.arn.split(":")[4]
    names_account = {account, f"arn:{partition}:iam::{account}:root"}
    itself = {"*"} | ({caller.arn, caller.role_arn} - {""})
    if not _allowed(statements, _AWS, names_account | itself, values):
        return Trust.NONE
    if caller.is_root or _allowed(statements, _AWS, itself, values):
        return Trust.FULL
    return Trust.ACCOUNT


def values_of(caller: Caller, account: str) -> dict[str, tuple[str, ...]]:
    """Return the values of the keys about a caller."""
    return {
        "aws:principalaccount": (account,),
        "aws:principalarn": (caller.role_arn or caller.arn,),
        "aws:userid": (caller.user_id,) if caller.user_id else (),
        "aws:username": (caller.name,) if caller.type == USER else (),
    }


def _allowed(statements: Iterable[Statement], kind: str, who: set[str], values: Values) -> bool:
    applying = [
        each.allows
        for each in statements
        if each.is_about(ASSUME)
        and who & set(each.principals.get(kind, ()))
        and each.applies("*", values)
    ]
    return bool(applying) and all(applying)
