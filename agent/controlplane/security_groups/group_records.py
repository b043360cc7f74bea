"""Security groups as they are stored. Plain data and keys.

::

    /security-groups/<id>               SecurityGroupRecord
    /security-group-names/<digest>      id        makes a name unique
    /security-group-uses/<id>           empty     put by everyone who begins to use a group, so that a
                                                  deletion that has looked for users notices
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from msgspec import field

from agent.controlplane.records import Record
from agent.model.security_groups import ANY, GroupRule, SecurityGroup

if TYPE_CHECKING:
    from agent.controlplane.names import Names

GROUPS: Final = "/security-groups/"
NAMES: Final = "/security-group-names/"
USES: Final = "/security-group-uses/"
DEFAULT_NAME: Final = "default"
_ID_DIGITS: Final = 17


class RuleRecord(Record, frozen=True):
    """One rule, as ``model.security_groups.GroupRule`` has it, with what only operators see."""

    rule: GroupRule
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


class SecurityGroupRecord(Record, frozen=True):
    """A security group."""

    id: str
    name: str
    description: str = ""
    rules: list[RuleRecord] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    is_default: bool = False

    @property
    def group(self) -> SecurityGroup:
        """The group as hosts know it, without members."""
        return SecurityGroup(
            id=self.id,
            name=self.name,
            rules=tuple(each.rule for each in self.rules),
            is_default=self.is_default,
        )

    @property
    def peers(self) -> frozenset[str]:
        """Ids of the groups that its rules name."""
        return frozenset(each.rule.group for each in self.rules if each.rule.group)


def group_key(group_id: str) -> str:
    """Return the key of a group."""
    return f"{GROUPS}{group_id}"


def name_key(name: str) -> str:
    """Return the key that makes a group's name unique; the name may be any text."""
    return f"{NAMES}{hashlib.sha256(name.encode()).hexdigest()}"


def use_key(group_id: str) -> str:
    """Return the key that everyone puts who begins to use a group."""
    return f"{USES}{group_id}"


def new_group_id() -> str:
    """Return the id of a new group."""
    return f"sg-{secrets.token_hex(9)[:_ID_DIGITS]}"


def new_rule_id() -> str:
    """Return the id of a new rule."""
    return f"sgr-{secrets.token_hex(9)[:_ID_DIGITS]}"


def vpc_id(names: Names) -> str:
    """Return the id of control's one VPC; always the same for an account and region."""
    return f"vpc-{_stable(names, 'vpc')}"


def default_group_id(names: Names) -> str:
    """Return the id of the VPC's default group."""
    return f"sg-{_stable(names, 'default group')}"


def default_group(names: Names) -> SecurityGroupRecord:
    """Return the default group as long as nobody has changed it: as a new VPC has it."""
    group_id = default_group_id(names)
    inside = RuleRecord(
        rule=GroupRule(id=f"sgr-{_stable(names, 'inside')}", protocol=ANY, group=group_id)
    )
    return SecurityGroupRecord(
        id=group_id,
        name=DEFAULT_NAME,
        description="default VPC security group",
        rules=[
            inside,
            *to_everywhere(f"sgr-{_stable(names, 'ipv4')}", f"sgr-{_stable(names, 'ipv6')}"),
        ],
        is_default=True,
    )


def to_everywhere(id_ipv4: str, id_ipv6: str) -> list[RuleRecord]:
    """Return the egress rules that a new group has."""
    return [
        RuleRecord(rule=GroupRule(id=id_ipv4, protocol=ANY, is_egress=True, cidr_ipv4="0.0.0.0/0")),
        RuleRecord(rule=GroupRule(id=id_ipv6, protocol=ANY, is_egress=True, cidr_ipv6="::/0")),
    ]


def _stable(names: Names, what: str) -> str:
    text = f"{names.partition}/{names.region}/{names.account}/{what}"
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]
