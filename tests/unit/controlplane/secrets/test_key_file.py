from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.secrets import key_file
from agent.controlplane.secrets.key_file import load, new_key, save
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets.keys"


def test_keys_are_kept_in_order_and_only_for_their_owner(file: Path) -> None:
    assert load(file) == ()
    keys = (new_key(), new_key())
    save(file, keys)
    assert load(file) == keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    save(file, keys[:1])
    assert load(file) == keys[:1]
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert keys[0].key.hex() not in repr(keys)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("# nothing\n", "has no key"),
        ("0123456789abcdef c2hvcnQ=\n", "line 1 is not an id and a key"),
        ("# a\n\nname AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", "line 3 is not"),
        ("0123456789abcdef !!!!\n", "line 1 is not"),
        (
            "0123456789abcdef AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 2,
            "line 2 has the id of an earlier line",
        ),
        ("\udcff\n", "line 1 is not"),
    ],
)
def test_a_file_that_is_none_is_refused_and_not_shown(file: Path, content: str, text: str) -> None:
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_a_file_that_others_can_read_is_refused_with_the_mend(file: Path) -> None:
    save(file, [new_key()])
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=f"run 'chmod 600 {file}'"):
        load(file)


def test_what_is_no_file_is_refused(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError, match=f"secret keys {file}"):
        load(file)
    with pytest.raises(ConfigError, match=f"secret keys {file}"):
        save(file, [new_key()])
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_that_is_too_large_is_refused(file: Path) -> None:
    file.write_bytes(b"#" * (key_file._LIMIT_BYTES + 1))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="larger than 64 KiB"):
        load(file)


def test_a_write_that_fails_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (new_key(),)
    save(file, keys)

    def fails(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ConfigError, match="No space left on device; make room"):
        save(file, [new_key(), *keys])
    assert load(file) == keys
    assert [path.name for path in file.parent.iterdir()] == [file.name]
