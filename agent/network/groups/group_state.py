"""What control has said of security groups, in memory and on disk.

A row per group, so that a restarted agent has the rules of its tasks while control is away. Rows are written
without waiting for the disk: control says all of it again to an agent that starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import msgspec

from agent.model.security_groups import SecurityGroup
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.security_groups import GroupUpdates
    from agent.state import StateStore

KIND: Final = "securityGroup"
"""Kind of the rows; the key is the group's id."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SecurityGroup).decode


class GroupState:
    """The groups of one agent; for one event loop."""

    def __init__(self, store: StateStore, groups: dict[str, SecurityGroup]) -> None:
        self._store = store
        self._groups = groups

    @classmethod
    async def open(cls, store: StateStore) -> Self:
        """Read what an earlier process kept.

        Raises:
            StateFailure: it cannot be read.
        """
        return cls(store, dict(await store.load(KIND, _decode)))

    @property
    def groups(self) -> Mapping[str, SecurityGroup]:
        """What is known of each group, by id."""
        return self._groups

    def take(self, updates: GroupUpdates) -> bool:
        """Take what control says; return whether it is new. The same again changes nothing."""
        after = {} if updates.full else dict(self._groups)
        for update in updates.groups:
            after[update.group.id] = update.applied(self._groups.get(update.group.id))
        if after == self._groups:
            return False
        batch = Batch()
        for group_id, group in after.items():
            if self._groups.get(group_id) != group:
                batch.put(KIND, group_id, _encode(group))
        for group_id in self._groups.keys() - after.keys():
            batch.delete(KIND, group_id)
        self._groups = after
        self._store.note(batch)
        return True
