"""Names of tasks as control hands them to hosts: what DNS answers. Pure data."""

from __future__ import annotations

from msgspec import Struct, field


class NamedInstance(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One of those that a name stands for."""

    id: str
    ipv4: str = ""
    ipv6: str = ""
    port: int = 0


class TaskName(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One name with all that it stands for now."""

    name: str
    """In full, without the dot at the end, in lower case."""
    ttls: dict[str, int] = field(default_factory=dict)
    """For how many seconds a record may be remembered, by its type: A, AAAA or SRV."""
    is_weighted: bool = False
    """Whether an answer has one instance, not up to eight."""
    instances: tuple[NamedInstance, ...] = ()
    """The healthy ones; all of them if none is healthy."""


class Alias(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A name of Service Connect: answered to tasks with Service Connect in its namespace, and to no others."""

    namespace: str
    """Id of the namespace."""
    name: str
    """In full, without a dot at the end, in lower case."""
    instances: tuple[NamedInstance, ...] = ()
    """The healthy ones; all of them if none is healthy."""


class NameUpdates(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What changed in the names of the fleet; the same result if it comes twice."""

    zones: dict[str, int] = field(default_factory=dict)
    """All namespaces in DNS, in lower case, with the seconds for which the absence of a name may be remembered."""
    names: list[TaskName] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    gone_aliases: list[tuple[str, str]] = field(default_factory=list)
    """Namespace and name of each."""
    full: bool = False
    """Whether these are all names and aliases: others are gone."""
