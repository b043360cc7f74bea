"""Log events on their way from an agent to our own control: part of the long-poll wire (``wire``).

====== ====================== =======================================================================
POST   ``/v1/logs``           ``Logs`` → 200 ``LogsAnswer``, which names every batch; 429 and 503 with
                              ``Retry-After``: not now
POST   ``/v1/logs/streams``   ``LogStream`` → 200 ``{}``, also for one that is there; 404 with the code
                              ``ResourceNotFoundException``: the group is not there and not to be made
====== ====================== =======================================================================

An agent has one call of ``/v1/logs`` in flight, so that events keep their order. It sends a batch again
with the same id until it is answered; one that was taken is not stored twice.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

SECRET: Final = "logSecret"  # noqa: S105 - a name
"""Name of the state file's value from which keys for logs are made (``awslogs.parts``)."""


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class LogBatch(_Wire, frozen=True):
    """Events of one stream, in the order in which its container wrote them."""

    id: str
    """Unique; the same for the same events."""
    group: str
    stream: str
    events: list[tuple[int, str]]
    """Unix time in milliseconds, and the line."""
    create_group: bool = False
    """Make the group where it is missing. The stream is always made."""


class Logs(_Wire, frozen=True):
    """Batches of any streams, oldest first."""

    instance: str
    """ARN of the container instance."""
    batches: list[LogBatch]


class RefusedBatch(_Wire, frozen=True):
    """A batch that will never be taken."""

    id: str
    type: str
    """Name of the error in CloudWatch Logs, for example ``ResourceNotFoundException``."""
    message: str = ""


class LogsAnswer(_Wire, frozen=True):
    """What became of each batch; one that is not named is sent again."""

    accepted: list[str] = field(default_factory=list)
    refused: list[RefusedBatch] = field(default_factory=list)


class LogStream(_Wire, frozen=True):
    """A stream that a container is about to write to."""

    instance: str
    group: str
    stream: str
    create_group: bool = False


class SpooledBatch(Struct, frozen=True, kw_only=True):
    """Events that wait on the host for delivery; becomes a ``LogBatch``."""

    seq: int
    """Place among all that wait."""
    id: str
    task: str
    """Id of the task."""
    group: str
    stream: str
    create_group: bool
    events: int
    """How many."""
    body: bytes
    """``LogBatch.events`` as JSON."""
