"""Who asks: found by the connection alone, at the moment of the request.

====== ============================================================================================
awsvpc the source address, which nobody else can use (``network.bridge_port_rules``, ``network.firewall``)
bridge the container in whose network namespace the kernel has the other end of the connection
host   the container of which a process has the socket at the other end open
none   cannot ask
====== ============================================================================================

Looking on demand leaves no gap in which a new container is unknown, and nothing to mislead: a neighbour that
takes a container's address has no connection inside of it. All tasks in ``host`` mode and the host itself
share addresses, so there it is the process that counts. A process of the host's superuser that is in no
container of ours is the engine as far as can be told; it must be seen with the socket, because a container's
process can hide one, for example by sending it to itself.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from agent.model.status import NetworkMode
from agent.network.kernel.namespaces import inside
from agent.task_endpoint import sockets
from agent.task_endpoint.contract import Caller, Peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from agent.engine.task_places import ContainerPlace, TaskPlace
    from agent.task_endpoint.processes import ContainerProcesses
    from agent.task_endpoint.sockets import ConnectedSocket

T = TypeVar("T")

LOOK_S: Final = 3.0
"""How long a look may take; then the caller counts as unknown."""
_THREADS: Final = 2


class Ends(NamedTuple):
    """Where the server is, as those who connect to it see it."""

    ipv4: str
    ports: tuple[int, ...]


class Callers:
    """Finds out who asks; belongs to one event loop. ``close`` it."""

    def __init__(
        self,
        places: Callable[[], Iterable[TaskPlace]],
        processes: ContainerProcesses,
        server: Ends,
        *,
        superuser: int = 0,
    ) -> None:
        """Nothing is read yet.

        Args:
            places: returns where all tasks are; called on the event loop, must be quick.
            processes: finds processes of containers.
            server: where callers find the server.
            superuser: the user as whom the engine runs.
        """
        self._places = places
        self._processes = processes
        self._server = server
        self._superuser = superuser
        self._lane = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="callers")

    def close(self) -> None:
        """End the threads."""
        self._lane.shutdown(wait=False, cancel_futures=True)

    async def of(self, peer: Peer) -> Caller:
        """Return who has the other end of a connection; an unknown one if that takes too long."""
        return await self._look(peer, list(self._places()), is_host_asked=True)

    async def is_of(self, peer: Peer, task_arn: str) -> bool:
        """Return whether a container of this task has the other end of a connection."""
        owners = [place for place in self._places() if place.task_arn == task_arn]
        found = await self._look(peer, owners) if owners else Caller()
        return bool(task_arn) and found.task_arn == task_arn

    async def is_host(self, peer: Peer) -> bool:
        """Return whether a process of the superuser has it that is in no container of ours."""
        return (await self.of(peer)).is_host

    async def _look(
        self, peer: Peer, places: Sequence[TaskPlace], *, is_host_asked: bool = False
    ) -> Caller:
        if not peer.ipv4:
            return Caller()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOK_S):
                return await loop.run_in_executor(
                    self._lane, self._find, peer, places, is_host_asked
                )
        except (TimeoutError, OSError):
            return Caller()

    def _find(self, peer: Peer, places: Sequence[TaskPlace], is_host_asked: bool) -> Caller:
        """Find who it is among these tasks, or whether it is the host; blocks."""
        on_host = self._of_this_namespace(peer)
        if on_host is not None:
            caller = self._of_host(on_host, places)
            is_host = is_host_asked and not caller.task_arn and self._is_host(on_host, places)
            return caller._replace(is_host=is_host)
        for place in places:
            if place.mode is NetworkMode.AWSVPC and place.ipv4 == peer.ipv4:
                return Caller(place.task_arn)
        for place in places:
            if place.mode is not NetworkMode.BRIDGE:
                continue
            for container in place.containers:
                if self._is_inside(container, peer):
                    return Caller(place.task_arn, container.name)
        return Caller()

    def _of_host(self, found: ConnectedSocket, places: Sequence[TaskPlace]) -> Caller:
        for place in places:
            if place.mode is not NetworkMode.HOST:
                continue
            for container in place.containers:
                if self._processes.has_socket(container, found.inode):
                    return Caller(place.task_arn, container.name)
        return Caller()

    def _is_host(self, found: ConnectedSocket, places: Sequence[TaskPlace]) -> bool:
        if found.uid != self._superuser:
            return False
        containers = [container for place in places for container in place.containers]
        return self._processes.is_held_outside(containers, found.inode)

    def _of_this_namespace(self, peer: Peer) -> ConnectedSocket | None:
        with sockets.open_diag() as diag:
            return self._connected(diag, peer)

    def _is_inside(self, container: ContainerPlace, peer: Peer) -> bool:
        namespaces = self._processes.network_namespaces(container)
        try:
            return any(inside(netns, partial(self._has_connection, peer)) for netns in namespaces)
        finally:
            for netns in namespaces:
                os.close(netns)

    def _has_connection(self, peer: Peer) -> bool:
        return self._of_this_namespace(peer) is not None

    def _connected(self, diag: socket.socket, peer: Peer) -> ConnectedSocket | None:
        ends = (Peer(self._server.ipv4, port) for port in self._server.ports)
        found = (sockets.find(diag, peer, end) for end in ends)
        return next(filter(None, found), None)
