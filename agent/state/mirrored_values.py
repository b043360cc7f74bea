"""Single values that are kept twice: in the state file and in the mirror beside it.

Both count the changes, which shows which of them is newer. Each restores what the other has lost.
Part of the store's SQLite side; used in its thread.
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
"""Name of the value that counts the changes."""


class MirroredValues:
    """The mirrored values of one state file; without keys there is no mirror."""

    def __init__(
        self,
        path: Path,
        keys: frozenset[str],
        *,
        connect: Callable[[], sqlite3.Connection],
        apply: Callable[..., object],
    ) -> None:
        self.is_behind = False
        """Whether the mirror lacks a change that the state file has."""
        self._path = path
        self._keys = keys
        self._connect = connect
        self._apply = apply
        self._second = MirrorFile(path)

    def unite(self) -> list[str]:
        """Bring state file and mirror to the same values; return notes for the operator.

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
            notes.append(f"{trouble}; it was written again from {self._path}")
        elif trouble:
            notes.append(f"{trouble}, and {self._path} has no identity of this host")
        elif here.values and not there.serial and not is_first:
            notes.append(f"{self._second.path} was missing; it was written again from {self._path}")
        self.is_behind = bool(wanted != there or trouble)
        self.keep()
        return notes

    def _restore(self, here: Values, wanted: Values) -> list[str]:
        """Write the mirror's values to the state file."""
        gone = here.values.keys() - wanted.values.keys()
        ops = [Op(schema.DELETE_META, (key,)) for key in gone]
        ops += [Op(schema.PUT_META, item) for item in wanted.values.items()]
        self._apply([[*ops, Op(schema.PUT_META, (SERIAL, str(wanted.serial)))]], durable=True)
        lost = sorted(key for key, value in wanted.values.items() if here.values.get(key) != value)
        if not lost:
            return []
        what = f"{self._path} had lost the identity of this host ({', '.join(lost)})"
        return [f"{what}; it was restored from {self._second.path}"]

    def count(self, batches: Iterable[Sequence[Op]]) -> list[Op]:
        """Return what to write along with batches: the new count if a mirrored value changes."""
        changes = (schema.PUT_META, schema.DELETE_META)
        changed = any(
            op.sql in changes and op.values[0] in self._keys for ops in batches for op in ops
        )
        if not changed:
            return []
        return [Op(schema.PUT_META, (SERIAL, str(self._values().serial + 1)))]

    def look(self) -> bool:
        """Return whether the mirror was removed; it is marked as behind then."""
        if not self._keys or self.is_behind or not self._values().values:
            return False
        self.is_behind = not self._second.path.exists()
        return self.is_behind

    def keep(self) -> str:
        """Write the mirror if it is behind; return why that failed, or an empty string."""
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
    """Return the values that both files should hold. Pure.

    A rescued state file may have lost any of its values, including the count. So if both have the
    same count, the mirror wins, because its checksum proves that it is intact.
    """
    if second.serial and second.serial >= state.serial:
        return second
    return state
