"""The names that control has said, and what is answered to a question. Pure but for chance."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from agent.dns import message
from agent.dns.message import Answer, Question, address_of, authority_of, response, service_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.names import Alias, NamedInstance, NameUpdates, TaskName

ANSWERS_MOST: Final = 8
"""As Route 53 does."""
_TYPES: Final = {message.A: "A", message.AAAA: "AAAA", message.SRV: "SRV"}


def _nowhere() -> str:
    return ""


class Zones:
    """What one host knows of names."""

    def __init__(self, rng: random.Random | None = None) -> None:
        """Begin with nothing; ``rng`` chooses among instances."""
        self._zones: dict[str, int] = {}
        self._names: dict[str, TaskName] = {}
        self._aliases: dict[str, dict[str, Alias]] = {}
        """By name, and by the id of the namespace."""
        self._of_instances: dict[str, tuple[str, NamedInstance]] = {}
        """The targets of SRV records: name and instance, by the instance's own name."""
        self._rng = rng or random.Random()  # noqa: S311 - spreads load

    def __bool__(self) -> bool:
        """Whether there are namespaces in DNS, or aliases."""
        return bool(self._zones or self._aliases)

    def apply(self, update: NameUpdates) -> None:
        """Take what control has said; the same result if it comes twice."""
        self._zones = dict(update.zones)
        if update.full:
            self._names.clear()
            self._of_instances.clear()
            self._aliases.clear()
        for namespace, name in update.gone_aliases:
            self._forget_alias(namespace, name)
        for alias in update.aliases:
            self._aliases.setdefault(alias.name, {})[alias.namespace] = alias
        for name in update.gone:
            self._forget(name)
        for one in update.names:
            self._forget(one.name)
            self._names[one.name] = one
            if "SRV" in one.ttls:
                for each in one.instances:
                    self._of_instances[_own_name(each, one)] = one.name, each

    def _forget(self, name: str) -> None:
        old = self._names.pop(name, None)
        for each in old.instances if old is not None else ():
            self._of_instances.pop(_own_name(each, old), None)

    def _forget_alias(self, namespace: str, name: str) -> None:
        of = self._aliases.get(name, {})
        of.pop(namespace, None)
        if not of:
            self._aliases.pop(name, None)

    def answer(
        self, question: Question, namespace_of_asker: Callable[[], str] = _nowhere
    ) -> bytes | None:
        """Return the answer; None for a name that is in none of the namespaces.

        ``namespace_of_asker`` gives the namespace of Service Connect of who asks, empty without; only called for a
        name that is an alias somewhere.
        """
        of = self._aliases.get(question.name)
        alias = of.get(namespace_of_asker()) if of is not None else None
        if alias is not None:
            return self._alias_answer(question, alias)
        zone = self._zone_of(question.name)
        if zone is None:
            return None
        authority = authority_of(zone, self._zones[zone])
        known = self._names.get(question.name)
        if known is not None and known.instances:
            answers, also = self._records(known, question.type)
        elif question.name in self._of_instances:
            answers, also = self._own_records(question), []
        elif question.name == zone or self._is_parent(question.name):
            answers, also = [], []
        else:
            return response(question, message.NO_SUCH_NAME, authority=authority)
        if question.name == zone and question.type in (message.SOA, message.ANY):
            answers = [*answers, authority]
        if answers:
            return response(question, message.NO_ERROR, answers, also=also)
        return response(question, message.NO_ERROR, authority=authority)

    def _alias_answer(self, question: Question, alias: Alias) -> bytes:
        """Return the addresses of an alias; neither they nor their absence may be cached."""
        if not alias.instances:
            return response(question, message.NO_SUCH_NAME)
        chosen = self._rng.sample(alias.instances, min(ANSWERS_MOST, len(alias.instances)))
        answers = []
        for one in chosen:
            for kind, address in ((message.A, one.ipv4), (message.AAAA, one.ipv6)):
                if address and question.type in (kind, message.ANY):
                    answers.append(address_of(alias.name, 0, address))
        return response(question, message.NO_ERROR, answers)

    def _zone_of(self, name: str) -> str | None:
        """Return the longest namespace that a name is in."""
        while name:
            if name in self._zones:
                return name
            name = name.partition(".")[2]
        return None

    def _is_parent(self, name: str) -> bool:
        """Return whether something is below a name, so that it exists without having records."""
        below = f".{name}"
        return any(each.endswith(below) and one.instances for each, one in self._names.items())

    def _records(self, known: TaskName, kind: int) -> tuple[list[Answer], list[Answer]]:
        """Return the records of a type, and the addresses of those whom they name."""
        wanted = [_TYPES[kind]] if kind in _TYPES else [*known.ttls] if kind == message.ANY else []
        most = 1 if known.is_weighted else ANSWERS_MOST
        chosen = self._rng.sample(known.instances, min(most, len(known.instances)))
        answers, also = [], []
        for each in wanted:
            if each not in known.ttls:
                continue
            ttl_s = known.ttls[each]
            for one in chosen:
                if each == "SRV":
                    own = _own_name(one, known)
                    answers.append(service_of(known.name, ttl_s, one.port, own))
                    also += [address_of(own, ttl_s, a) for a in (one.ipv4, one.ipv6) if a]
                elif address := one.ipv4 if each == "A" else one.ipv6:
                    answers.append(address_of(known.name, ttl_s, address))
        return answers, also

    def _own_records(self, question: Question) -> list[Answer]:
        name, one = self._of_instances[question.name]
        ttl_s = self._names[name].ttls["SRV"]
        found = {message.A: one.ipv4, message.AAAA: one.ipv6}
        asked = found if question.type == message.ANY else {question.type: found.get(question.type)}
        return [address_of(question.name, ttl_s, each) for each in asked.values() if each]


def _own_name(instance: NamedInstance, of: TaskName | None) -> str:
    """Return the name of an instance itself, to which SRV records point."""
    return f"{instance.id}.{of.name}".lower() if of is not None else ""
