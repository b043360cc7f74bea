"""Calls that go on after they were answered at first: streams and sessions, which end with the right to make them.

Whatever changes a key or a policy says whose it is, and then only the calls of that caller are looked at. What a
call needed is decided again, with the values of conditions with which it was admitted. One that depends on values
which nobody asked for at that time is ended: its caller may make it again. For one event loop.

Tests: ``tests/unit/controlplane/authorization/test_open_calls.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.controlplane.authorization.grants import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.controlplane.authorization.caller import Caller
    from agent.controlplane.authorization.grants import Grants


class Need(NamedTuple):
    """An action on a resource that was allowed."""

    action: str
    resource: str
    values: Mapping[str, tuple[str, ...]] = {}
    """Of the keys of conditions, in lower case."""
    keys: frozenset[str] = frozenset()
    """The keys whose values were looked for; those that are not in ``values`` have none."""


class AllowedCall(NamedTuple):
    """Who makes a call, and by what right."""

    caller: Caller
    grants: Grants | None = None
    """What the policies of the caller said; None for one who may do everything."""
    needs: tuple[Need, ...] = ()
    """What the call needed of them."""


class Rights(Protocol):
    """Knows keys and policies as they are now; ``iam.directory.Directory``."""

    def tell(self, changed: Callable[[str], None]) -> None:
        """Call this with each place that has changed, without waiting."""

    def place(self, caller: Caller) -> str:
        """Return what changes when the keys or policies of a caller change."""

    def grants_of(self, caller: Caller, grants: Grants) -> Grants | None:
        """Return what policies say of a caller now, within its session; None if its key is not accepted."""


class _Held(NamedTuple):
    call: AllowedCall
    end: Callable[[], None]


class OpenCalls:
    """All such calls of one control endpoint."""

    def __init__(self) -> None:
        self._rights: Rights | None = None
        self._root_keys: Collection[str] | None = None
        self._held: dict[str, dict[object, _Held]] = {}

    def follow(self, rights: Rights) -> None:
        """Take what knows the keys and policies of users and roles."""
        self._rights = rights
        rights.tell(self.review)

    def take_root_keys(self, key_ids: Collection[str]) -> None:
        """Take the ids of the keys that may do everything; calls with others of them are ended."""
        self._root_keys = key_ids
        self.review("")

    def hold(self, call: AllowedCall, end: Callable[[], None]) -> Callable[[], None]:
        """Have a call be ended once its caller may not make it any more, at once if that is so already.

        Args:
            call: which goes on.
            end: ends it, without waiting; called at most once, and not after the release.

        Returns:
            What releases the call; idempotent.
        """
        place, token = self._place(call), object()
        self._held.setdefault(place, {})[token] = _Held(call, end)
        self._look_at(place, token)

        def release() -> None:
            held = self._held.get(place, {})
            if held.pop(token, None) is not None and not held:
                del self._held[place]

        return release

    def review(self, place: str) -> None:
        """Look again at the calls of one place, because keys or policies there have changed."""
        for token in list(self._held.get(place, ())):
            self._look_at(place, token)

    def _look_at(self, place: str, token: object) -> None:
        held = self._held.get(place, {})
        one = held.get(token)
        if one is None or self._may_go_on(one.call):
            return
        del held[token]
        if not held:
            del self._held[place]
        one.end()

    def _place(self, call: AllowedCall) -> str:
        if call.grants is None or self._rights is None:
            return ""
        return self._rights.place(call.caller)

    def _may_go_on(self, call: AllowedCall) -> bool:
        if call.grants is None:
            key_id = call.caller.key_id
            return not key_id or self._root_keys is None or key_id in self._root_keys
        if self._rights is None:
            return True
        grants = self._rights.grants_of(call.caller, call.grants)
        return grants is not None and all(_allows(grants, need) for need in call.needs)


def _allows(grants: Grants, need: Need) -> bool:
    if not grants.keys(need.action) <= need.keys:
        return False
    return grants.decide(need.action, need.resource, need.values) is Decision.ALLOWED
