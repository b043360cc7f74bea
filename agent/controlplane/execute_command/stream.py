"""Two directions of messages with a plugin: what was not acknowledged is sent again. Pure.

A plugin that is still setting up its terminal drops messages without a word, so each message is kept until
it is acknowledged. The oldest is sent again when its time is up; that time follows the round trips that are
measured, as the plugin's own does.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.controlplane.execute_command.frames import OUTPUT, Frame, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

IN_FLIGHT_MOST: Final = 256
"""Messages that wait for their acknowledgement at once; a plugin keeps up to 10,000 out of order."""
AHEAD_MOST: Final = 256
"""How many messages behind a missing one are kept; later ones are dropped, and sent again."""
FIRST_S: Final = 0.2
LONGEST_S: Final = 1.0
_GAIN: Final = 1 / 8
_DEVIATION_GAIN: Final = 1 / 4


class _Sent(Struct):
    sequence: int
    data: bytes
    at: float
    again: bool = False
    acknowledged: bool = False


class Outgoing:
    """Messages to a plugin. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._next = 0
        self._sent: deque[_Sent] = deque()
        """From the oldest that is not acknowledged to the newest; those between may be."""
        self._trip_s = FIRST_S
        self._deviation_s = 0.0
        self.limit_s = FIRST_S
        """After which the oldest message is sent again."""

    @property
    def is_full(self) -> bool:
        """Whether to wait for an acknowledgement before the next message."""
        return len(self._sent) >= IN_FLIGHT_MOST

    @property
    def is_empty(self) -> bool:
        """Whether everything was acknowledged."""
        return not self._sent

    def send(self, payload_kind: int, payload: bytes, now: float) -> bytes:
        """Return the next message as bytes, and keep it until it is acknowledged."""
        frame = Frame(kind=OUTPUT, sequence=self._next, payload=payload, payload_kind=payload_kind)
        self._next += 1
        data = encode(frame)
        self._sent.append(_Sent(frame.sequence, data, now))
        return data

    def acknowledge(self, sequence: int, now: float) -> bool:
        """Take note that a message has arrived; return whether this is news."""
        place = sequence - self._sent[0].sequence if self._sent else -1
        if not 0 <= place < len(self._sent) or self._sent[place].acknowledged:
            return False
        sent = self._sent[place]
        sent.acknowledged = True
        if not sent.again:  # of a repeated one, nobody knows which copy was acknowledged
            self._measured(max(now - sent.at, 0.0))
        while self._sent and self._sent[0].acknowledged:
            self._sent.popleft()
        return True

    def due(self, now: float) -> tuple[bytes | None, float]:
        """Return the oldest message if it is to be sent again now, and how long to wait before the next look."""
        if not self._sent:
            return None, self.limit_s
        oldest = self._sent[0]
        left_s = oldest.at + self.limit_s - now
        if left_s > 0:
            return None, left_s
        oldest.at, oldest.again = now, True
        return oldest.data, self.limit_s

    def _measured(self, trip_s: float) -> None:
        self._deviation_s += _DEVIATION_GAIN * (abs(trip_s - self._trip_s) - self._deviation_s)
        self._trip_s += _GAIN * (trip_s - self._trip_s)
        self.limit_s = min(max(self._trip_s + 4 * self._deviation_s, FIRST_S), LONGEST_S)


class Incoming:
    """Messages from a plugin, put in order, each once."""

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, Frame] = {}

    def is_new(self, frame: Frame) -> bool:
        """Tell whether a message was not taken before."""
        return frame.sequence >= self._next and frame.sequence not in self._early

    def take(self, frame: Frame) -> tuple[bool, Sequence[Frame]]:
        """Take a message; return whether to acknowledge it, and the messages that are now in order."""
        if frame.sequence < self._next:
            return True, ()
        if frame.sequence > self._next + AHEAD_MOST:
            return False, ()
        self._early[frame.sequence] = frame
        ready = []
        while (following := self._early.pop(self._next, None)) is not None:
            ready.append(following)
            self._next += 1
        return True, ready
