"""What people are told about roles. Pure.

The first words of a refusal are those of Amazon ECS.
"""

from __future__ import annotations

from typing import Final

from agent.model import reasons
from agent.model.payload import RoleType

MEMBERS: Final = {RoleType.APPLICATION: "taskRoleArn", RoleType.EXECUTION: "executionRoleArn"}
"""How a task definition calls each role."""

KEYS_MEND: Final = (
    "give control AWS keys in a place where AWS tools look for them, for example AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY in its environment"
)


TRUST_MEND: Final = (
    "The role's trust policy must name the owner of control's keys, who must be allowed to call "
    "sts:AssumeRole on it."
)


def refused(role_type: RoleType, role: str, told: str, mend: str = TRUST_MEND) -> str:
    """Return the reason of a task that stops because one of its roles was refused."""
    return reasons.clip(
        f"ECS was unable to assume the role '{role}' that was provided for this task as "
        f"{MEMBERS[role_type]}: {told}. {mend}"
    )


def awaited(role_type: RoleType, role: str, told: str) -> str:
    """Return why a task waits for credentials of a role, without an end yet."""
    return reasons.clip(
        f"waiting for credentials of the role '{role}' ({MEMBERS[role_type]}); control keeps "
        f"trying to get them from STS: {told}"
    )


def no_keys(told: str) -> str:
    """Return why no role can be assumed."""
    return f"control has no keys to assume a role with ({told}); {KEYS_MEND}"


def cannot_run(member: str, used_by: str, problem: str) -> str:
    """Return why a task whose role is needed is not taken."""
    why = f", which {used_by} needs," if used_by else ""
    return f"'{member}'{why} cannot be served: {problem}."
