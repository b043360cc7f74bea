"""Which commands make the servers of a running HAProxy those that are wanted. Pure.

A new server begins with the weight 0 and gets requests only once its health checks have passed: HAProxy takes
one for healthy before its first check. One that is to drain gets the weight 0 again, so that its requests
finish while its health is still known. One that is gone is deleted once it has no requests, or at once if its
time is over.

Source: HAProxy 2.6 management guide, section 9.3, "add server", "del server", "set server", "set weight".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.ingress.configuration import WEIGHT, backend_name, check_words, server_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.ingress.figures import ServerFigures
    from agent.model.ingress import Group, Target


def commands(
    groups: Sequence[Group],
    targets: Mapping[str, Sequence[Target]],
    known: Mapping[tuple[str, str], ServerFigures],
) -> list[str]:
    """Return the commands, in their order.

    Args:
        groups: those that the configuration has a backend for.
        targets: the wanted ones, by group id.
        known: the servers that exist, by backend and name.
    """
    found: list[str] = []
    for group in groups:
        backend = backend_name(group.id)
        wanted = {server_name(target): target for target in targets.get(group.id, ())}
        for name, target in wanted.items():
            found += _wanted(group, name, target, known.get((backend, name)))
        gone = [name for of, name in known if of == backend and name not in wanted]
        for name in gone:
            place = f"{backend}/{name}"
            found += [
                f"set server {place} state maint",
                f"shutdown sessions server {place}",
                f"del server {place}",
            ]
    return found


def _wanted(group: Group, name: str, target: Target, known: ServerFigures | None) -> Iterator[str]:
    place = f"{backend_name(group.id)}/{name}"
    if known is None:
        if target.drains:
            return
        words = " ".join(check_words(group.check, is_tls=group.check.protocol == "HTTPS"))
        yield f"add server {place} {target.address}:{target.port} {words} weight 0"
        yield f"enable health {place}"
        yield f"enable server {place}"
        return
    if known.status.startswith("MAINT"):  # taken out before, and not deleted yet
        yield f"set server {place} weight 0"
        yield f"set server {place} state ready"
        return
    weight = WEIGHT if known.is_up and not target.drains else 0
    # One that fails keeps its weight: HAProxy sends it nothing while it is down.
    if known.weight != weight and (target.drains or known.is_up):
        yield f"set server {place} weight {weight}"
