"""The ids by which containers ask: each follows from the secret of this host and the container.

So nothing is stored with a task, an id is the same in every process of the agent, and nobody can guess
one. It has the form of a UUID, as on Amazon ECS. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agent.task_endpoint.metadata.facts import Tasks

_UUID_VERSION: Final = 8  # RFC 9562: content of one's own


class Place(NamedTuple):
    """One container of one task."""

    task_arn: str
    container: str


class EndpointIds:
    """Makes ids. The same secret makes the same ids."""

    def __init__(self, secret: bytes) -> None:
        """Take the secret of this host, which must be the same in every process of its agent."""
        self._secret = secret

    def __repr__(self) -> str:
        return "EndpointIds(...)"

    def of(self, task_arn: str, container: str) -> str:
        """Return the id of a container."""
        text = f"endpoint\0{task_arn}\0{container}".encode()
        digest = hmac.digest(self._secret, text, hashlib.sha256)
        bits = int.from_bytes(digest[:16], "big")
        bits = bits & ~(0xF << 76) | _UUID_VERSION << 76  # the version
        bits = bits & ~(0x3 << 62) | 0x2 << 62  # the variant
        return str(uuid.UUID(int=bits))


class EndpointIndex:
    """Finds the container of an id among the tasks of this host; used from one event loop.

    The ids of a task are computed when somebody first asks for one that is not known yet.
    """

    def __init__(self, ids: EndpointIds, tasks: Tasks) -> None:
        """Take what makes ids, and the tasks of this host."""
        self._ids = ids
        self._tasks = tasks
        self._places: dict[str, Place] = {}
        self._indexed: dict[str, list[str]] = {}
        """Ids by task."""

    def find(self, endpoint_id: str) -> Place | None:
        """Return the container of an id; None for one that no container of this host has."""
        if endpoint_id not in self._places:
            self._renew()
        return self._places.get(endpoint_id)

    def _renew(self) -> None:
        known = self._tasks.known_tasks()
        for arn in self._indexed.keys() - set(known):
            for endpoint_id in self._indexed.pop(arn):
                del self._places[endpoint_id]
        for arn in known:
            record = self._tasks.record(arn) if arn not in self._indexed else None
            if record is not None:
                made = {self._ids.of(arn, name): name for name in record.containers}
                self._indexed[arn] = list(made)
                self._places |= {each: Place(arn, name) for each, name in made.items()}
