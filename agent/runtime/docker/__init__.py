"""The Docker Engine as a ``runtime.protocol.ContainerEngine``; only this room imports ``docker``.

::

    engine.py   DockerEngine: one method per call of the protocol
    calls.py    how a call is made: its lane, the client, errors
    lanes.py    bounded daemon threads, deadlines, cancellation: runs blocking calls from asyncio
    client.py   the SDK's APIClient over one kept connection per thread
    faults.py   the SDK's exceptions → agent.errors
    parse.py    the engine's JSON → protocol types
    pulls.py    pulls and their progress
    events.py   the event stream in its own thread: since, reconnect, relist
    exec.py     a command in a container: its connection, and hangup.py, which ends it
    streams.py  a blocking generator in a thread → an async iterator with back-pressure

A call ends at its deadline whatever the engine does, and its thread is freed by closing its socket.
Tests: ``tests/unit/runtime``, ``tests/integration/runtime``.
"""

from agent.runtime.docker.calls import LaneSizes
from agent.runtime.docker.engine import DockerEngine

__all__ = ["DockerEngine", "LaneSizes"]
