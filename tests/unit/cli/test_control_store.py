from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agent.cli import app
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "control.db")
        for number in range(40):
            await store.txn([], [Put(f"/{number}", b"x" * 1000)])
        await store.close()

    asyncio.run(fill())
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], place: Path, *words: str) -> tuple[int, str, str]:
    code = app.main(["control", *words, "--data-dir", str(place)])
    out, error = capsys.readouterr()
    return code, out, error


def test_backup_check_and_restore(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, place, "check")
    assert (code, out) == (0, f"{place / 'control.db'}: no damage, 40 records at revision 41\n")
    code, out, _ = run(capsys, place, "backup")
    (copy,) = (place / "backups").iterdir()
    assert (code, out) == (0, f"{copy}: 40 records at revision 41\n")
    named = place / "named.db"
    code, out, _ = run(capsys, place, "backup", str(named), "--json")
    assert json.loads(out) == {"file": str(named), "revision": 41, "keys": 40}
    code, out, _ = run(capsys, place, "restore")
    assert code == 0
    assert f"restored {copy}: 40 records at revision 41" in out
    assert "the old store is " in out
    assert "start control now; agents will report what is missing in the backup" in out
    code, out, _ = run(capsys, place, "restore", str(named), "--json")
    assert json.loads(out)["restored"] == str(named)


def test_damage_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((place / "control.db").read_bytes())
    content[5 * 4096 : 6 * 4096] = bytes(4096)
    (place / "control.db").write_bytes(content)
    code, out, error = run(capsys, place, "check")
    assert (code, out) == (1, "")
    assert "is damaged" in error
    code, out, _ = run(capsys, place, "check", str(place / "control.db"), "--json")
    assert (code, len(json.loads(out)["faults"]) > 0) == (1, True)
    code, _, error = run(capsys, place, "backup")
    assert (code, "is damaged" in error, error.count("\n")) == (5, True, 1)


def test_every_page_is_told_of_in_lines(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (place / "control.db").read_bytes()
    told = 0
    for page in range(1, len(whole) // 4096):
        garbled = whole[: page * 4096] + b"\xee" * 4096 + whole[(page + 1) * 4096 :]
        (place / "control.db").write_bytes(garbled)
        _, _, error = run(capsys, place, "check")
        for line in error.splitlines():
            assert line.count(str(place / "control.db")) == 1
            assert "***" not in line
        told += bool(error)
    assert told > 2


def test_control_says_that_a_restart_does_not_mend_its_store(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "control.db").write_bytes(b"")
    code, _, error = run(capsys, place, "--listen", "127.0.0.1:0")
    assert code == 5
    assert "so the store is lost" in error


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, tmp_path, "restore")
    assert (code, error) == (
        1,
        f"ecs-agent: {tmp_path / 'backups'} contains no backup; name a FILE\n",
    )
    code, _, error = run(capsys, tmp_path, "check", str(tmp_path / "nothing.db"))
    assert (code, "cannot be read: No such file or directory" in error) == (1, True)
    code, _, error = run(capsys, tmp_path, "backup", str(tmp_path / "x.db"))
    assert (code, "does not exist; give control's --data-dir" in error) == (1, True)
