"""Calls to systemd over the system bus: start, change and stop a transient unit.

Each call has a connection of its own, which costs a millisecond: nothing is left of one that failed,
and no signals pile up while nobody reads. Everything here blocks, for ``ANSWER_LIMIT_S`` at most
where systemd hangs; call it in a thread. All calls may be repeated.

Source: the D-Bus interface ``org.freedesktop.systemd1``.
Tests: ``tests/integration/cgroups``, ``tests/vm/test_limits.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Properties, message_bus
from jeepney import new_method_call as call_of
from jeepney.bus import find_system_bus
from jeepney.io.blocking import DBusConnection, prep_socket
from jeepney.wrappers import unwrap_msg

from agent.errors import CgroupFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jeepney import Message

ANSWER_LIMIT_S = 15.0
"""Systemd answers in a millisecond, but says nothing for seconds while it loads all units anew."""

Property = tuple[str, tuple[str, int | bool | str]]
"""Name, type in D-Bus and value."""

_NAME = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", _NAME, f"{_NAME}.Manager")
_EXISTS = f"{_NAME}.UnitExists"
_MISSING = frozenset({f"{_NAME}.NoSuchUnit", f"{_NAME}.UnitNotLoaded"})


class UnitExists(Exception):
    """A unit of this name is there already."""


def version() -> str:
    """Return the version of systemd; raises ``CgroupFailure``, as all functions here do.

    It says that the bus cannot be reached, or that systemd did not answer, refused or failed.
    """
    with _connected() as bus:
        ((_, text),) = bus.ask(Properties(_MANAGER).get("Version"))
    return str(text)


def start(unit: str, properties: Sequence[Property]) -> None:
    """Start a transient unit and return when it is there; raises ``UnitExists``."""
    body: tuple[object, ...] = (unit, "fail", list(properties), [])
    with _connected() as bus:
        bus.do(unit, call_of(_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body))


def change(unit: str, properties: Sequence[Property]) -> None:
    """Change properties of a unit for as long as it is there."""
    body = (unit, True, list(properties))
    with _connected() as bus:
        bus.ask(call_of(_MANAGER, "SetUnitProperties", "sba(sv)", body))


def stop(unit: str) -> None:
    """Stop a unit and return when it is gone; an absent one is success."""
    with _connected() as bus:
        bus.do(unit, call_of(_MANAGER, "StopUnit", "ss", (unit, "replace")))


class _Bus(DBusConnection):  # type: ignore[misc]  # the library has no types
    """A connection on which nothing is waited for without an end, the first greeting included."""

    def receive(self, *, timeout: float | None = None) -> Message:
        return super().receive(timeout=ANSWER_LIMIT_S if timeout is None else timeout)

    def ask(self, call: Message) -> tuple[Any, ...]:
        """Return the body of the answer; raises ``DBusErrorResponse``."""
        return tuple(unwrap_msg(self.send_and_get_reply(call, timeout=ANSWER_LIMIT_S)))

    def do(self, unit: str, call: Message) -> None:
        """Make a call that begins a job and return when the job has ended."""
        ended = MatchRule(type="signal", interface=_MANAGER.interface, member="JobRemoved")
        ended.add_arg_condition(2, unit)
        self.ask(message_bus.AddMatch(ended))
        self.ask(call_of(_MANAGER, "Subscribe"))  # or nobody is told of jobs
        with self.filter(ended, bufsize=16) as queue:
            (job,) = self.ask(call)
            result = ""
            while not result:
                signal = self.recv_until_filtered(queue, timeout=ANSWER_LIMIT_S)
                _, of_job, _, how = signal.body
                result = how if of_job == job else ""
        if result != "done":
            raise CgroupFailure(f"systemd could not carry out its job for {unit}: {result}")


@contextlib.contextmanager
def _connected() -> Iterator[_Bus]:
    try:
        socket = prep_socket(find_system_bus(), timeout=ANSWER_LIMIT_S)
        with contextlib.closing(socket), _Bus(socket) as bus:
            yield bus
    except DBusErrorResponse as error:
        if error.name in _MISSING:
            return
        if error.name == _EXISTS:
            raise UnitExists from None
        text = error.data[0] if error.data else error.name
        raise CgroupFailure(f"systemd refused: {text}") from None
    except (OSError, RuntimeError, ValueError) as error:
        # What the library raises where there is no bus, or one that does not let us in.
        why = str(error) or type(error).__name__
        text = f"systemd cannot be asked over the system bus: {why}"
        raise CgroupFailure(text) from None
