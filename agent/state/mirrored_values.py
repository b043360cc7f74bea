"""Single values that are kept in two places: in the state file and in the second place beside it.

State file and second place count the changes, so that the newer one is known: each restores what the
other has lost. Part of the store's SQLite side, and used in its thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.state import failures, schema
from agent.state.batch import Op
from agent.state.mirror_file import MirrorFile, Values

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

SERIAL: Final = "identitySerial"
"""Counts the changes."""


class MirroredValues:
    """Those values of one state file; without any keys there is no second place."""

    def __init__(
        self,
        path: Path,
        keys: frozenset[str],
        *,
        connect: Callable[[], sqlite3.Connection],
        apply: Callable[..., object],
    ) -> None:
        self.is_behind = False
        """Whether the second place lacks something that the state file has."""
        self._path = path
        self._keys = keys
        self._connect = connect
        self._apply = apply
        self._second = MirrorFile(path)

    def unite(self) -> list[str]:
        """Let both places hold the same; return what a person should know of it.

        Raises:
            sqlite3.Error: the state file cannot be read or written.
        """
        if not self._keys:
            return []
        here = self._values()
        is_first = not here.serial
        if here.values and is_first:
            self._apply([[Op(schema.PUT_META, (SERIAL, "1"))]], durable=True)
            here = self._values()
        there, trouble = self._second.read()
        wanted = newer(here, there)
        notes = self._restore(here, wanted) if wanted != here else []
        if trouble and here.values:
            notes.append(f"{trouble}; it was written anew from {self._path}")
        elif trouble:
            notes.append(f"{trouble}, and {self._path} does not say who this host is")
        elif here.values and not there.serial and not is_first:
            notes.append(f"{self._second.path} was gone; it was written anew from {self._path}")
        self.is_behind = bool(wanted != there or trouble)
        self.keep()
        return notes

    def _restore(self, here: Values, wanted: Values) -> list[str]:
        """Put what the second place holds into the state file."""
        gone = here.values.keys() - wanted.values.keys()
        ops = [Op(schema.DELETE_META, (key,)) for key in gone]
        ops += [Op(schema.PUT_META, item) for item in wanted.values.items()]
        self._apply([[*ops, Op(schema.PUT_META, (SERIAL, str(wanted.serial)))]], durable=True)
        lost = sorted(key for key, value in wanted.values.items() if here.values.get(key) != value)
        if not lost:
            return []
        what = f"{self._path} had lost who this host is ({', '.join(lost)})"
        return [f"{what}; it was read from {self._second.path}"]

    def count(self, batches: Iterable[Sequence[Op]]) -> list[Op]:
        """Return what is to be written along with batches: the count, where they change a value."""
        changes = (schema.PUT_META, schema.DELETE_META)
        changed = any(
            op.sql in changes and op.values[0] in self._keys for ops in batches for op in ops
        )
        if not changed:
            return []
        return [Op(schema.PUT_META, (SERIAL, str(self._values().serial + 1)))]

    def look(self) -> bool:
        """Tell whether somebody removed the second place; it is then behind."""
        if not self._keys or self.is_behind or not self._values().values:
            return False
        self.is_behind = not self._second.path.exists()
        return self.is_behind

    def keep(self) -> str:
        """Write the second place if it is behind; return why that cannot be done now, or nothing."""
        if not self.is_behind or not self._keys:
            return ""
        try:
            self._second.write(self._values())
        except failures.TROUBLE as error:
            why = getattr(error, "strerror", None) or error
            return f"{self._second.path} cannot be written: {why}"
        self.is_behind = False
        return ""

    def _values(self) -> Values:
        rows = dict(self._connect().execute("SELECT key, value FROM meta").fetchall())
        serial = str(rows.get(SERIAL, ""))
        return Values(
            serial=int(serial) if serial.isascii() and serial.isdecimal() else 0,
            values={
                key: value
                for key, value in rows.items()
                if key in self._keys
                and isinstance(value, str)
                and "\N{REPLACEMENT CHARACTER}" not in value
            },
        )


def newer(state: Values, second: Values) -> Values:
    """Return what both places are to hold. Pure.

    A state file that was rescued may have lost any of its values, the count included: where both
    count the same, the second place is right, because a checksum says so.
    """
    if second.serial and second.serial >= state.serial:
        return second
    return state
