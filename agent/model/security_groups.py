"""Security groups as control hands them to hosts: rules and members. Pure data.

A task in groups may receive what an ingress rule of one of them allows, and send what an egress rule of
one of them allows; everything else is dropped. Names and values are those of the EC2 API.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

ANY: Final = "-1"
"""The protocol of a rule for all traffic."""
PORT_PROTOCOLS: Final = ("tcp", "udp")
ICMP_PROTOCOLS: Final = ("icmp", "icmpv6")
EVERY_TYPE: Final = -1
"""An ICMP type or code of a rule for all of them."""
GROUPS_DETAIL: Final = "ecs-host-agent.security-groups"
"""Name of the property of a task's network interface that lists its groups, separated by commas."""


class GroupRule(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one rule allows. Exactly one of the two prefixes and ``group`` is set."""

    id: str
    protocol: str
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``-1`` or a protocol number."""
    is_egress: bool = False
    from_port: int = -1
    """First port; for ICMP the type. -1 if the protocol has neither, and for all types."""
    to_port: int = -1
    """Last port; for ICMP the code."""
    cidr_ipv4: str = ""
    cidr_ipv6: str = ""
    group: str = ""
    """Id of the group whose members are the peers."""


class SecurityGroup(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One group."""

    id: str
    name: str = ""
    rules: tuple[GroupRule, ...] = ()
    members: frozenset[str] = frozenset()
    """Addresses of the tasks of all hosts that are in it."""
    is_default: bool = False
    """Hosts are members of the default group, as instances that name no group are on EC2."""


class GroupUpdate(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What changed in one group since an earlier update of it."""

    group: SecurityGroup
    """With all rules; with those members alone that joined, unless it is ``whole``."""
    whole: bool = False
    left: frozenset[str] = frozenset()
    """Addresses that are not members any more."""

    def applied(self, old: SecurityGroup | None) -> SecurityGroup:
        """Return the group after this update; the same result if it comes twice."""
        if self.whole or old is None:
            return self.group
        members = (old.members - self.left) | self.group.members
        return SecurityGroup(
            id=self.group.id,
            name=self.group.name,
            rules=self.group.rules,
            members=members,
            is_default=self.group.is_default,
        )


class GroupUpdates(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Changes of the groups that a host needs: those of its tasks, and those their rules name."""

    groups: list[GroupUpdate] = field(default_factory=list)
    full: bool = False
    """Whether these are all groups: others are no longer needed."""
