"""The WireGuard key of a host: made once, for its owner alone, and never shown."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.errors import NetworkFailure
from agent.network.fleet import keys

if TYPE_CHECKING:
    from pathlib import Path


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = keys.load(tmp_path)
    file = tmp_path / keys.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == f"{key.private.reveal()}\n"
    assert keys.load(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == [keys.FILE]
    assert {len(base64.b64decode(text)) for text in (key.public, key.private.reveal())} == {32}
    assert key.private.reveal() not in repr(key)


def test_the_public_key_is_that_of_the_private_one(tmp_path: Path) -> None:
    private = bytes(range(32))
    file = tmp_path / keys.FILE
    file.touch(mode=0o600)
    file.write_text(base64.b64encode(private).decode())
    shared = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert keys.load(tmp_path).public == base64.b64encode(shared).decode()


@pytest.mark.parametrize("text", ["", "x", "AAAA", "A" * 43, "\xff" * 44])
def test_a_damaged_key_and_one_that_others_could_read_are_replaced(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / keys.FILE
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    made = keys.load(tmp_path)
    assert keys.load(tmp_path) == made
    file.chmod(0o644)
    new = keys.load(tmp_path)
    assert new.public != made.public
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_new_key_replaces_the_old_one(tmp_path: Path) -> None:
    assert keys.age_s(tmp_path) == 0
    old = keys.load(tmp_path)
    made_at = (tmp_path / keys.FILE).stat().st_mtime
    assert keys.age_s(tmp_path, made_at + 90) == 90
    assert keys.age_s(tmp_path, made_at - 90) == 0
    new = keys.replace(tmp_path)
    assert new.public != old.public
    assert keys.load(tmp_path) == new


def test_a_key_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    key = keys.load(tmp_path)
    (tmp_path / f".{keys.FILE}.0123abcd").write_text("secret")
    assert keys.load(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == [keys.FILE]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(NetworkFailure, match="cannot be written"):
        keys.load(tmp_path / "missing")
