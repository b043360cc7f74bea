from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.front import keys
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = f"[a]\naws_access_key_id = {'A' * 16}\naws_secret_access_key = {'%s' * 20}\n"


def written(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_missing_file_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    (key,) = keys.load(file).values()
    assert (key.name, len(key.id), len(key.secret)) == ("default", 20, 40)
    assert keys.load(file) == {key.id: key}
    assert [path.name for path in tmp_path.iterdir()] == ["credentials"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert key.secret not in repr(key)
    (other,) = keys.load(tmp_path / "other").values()
    assert (other.id, other.secret) != (key.id, key.secret)


def test_keys_have_names(tmp_path: Path) -> None:
    file = written(
        tmp_path / "k",
        f"# people\n{GOOD}\n[b]\naws_access_key_id={'B' * 20}\n"
        f"aws_secret_access_key={'s' * 40}\nregion = eu-west-1\n",
    )
    assert {key.name: key.secret for key in keys.load(file).values()} == {
        "a": "%s" * 20,
        "b": "s" * 40,
    }


@pytest.mark.parametrize(
    ("text", "mode", "error"),
    [
        (GOOD, 0o640, "others can read or change it"),
        (GOOD, 0o604, "chmod 600"),
        ("", 0o600, "contains no key"),
        ("aws_access_key_id = x", 0o600, "cannot be parsed in line 1"),
        ("[a]\n", 0o600, "section 'a' needs an aws_access_key_id"),
        (GOOD.replace("A" * 16, "A" * 15), 0o600, "needs an aws_access_key_id of 16"),
        (GOOD.replace("%s" * 20, "short"), 0o600, "20 to 256 characters"),
        (f"{GOOD}[b]{GOOD[3:]}", 0o600, "'b' and 'a' have the same key id"),
        (f"{GOOD}{GOOD}", 0o600, "cannot be parsed in line 4"),
        (b"\xff", 0o600, "byte 0 is not UTF-8"),
        ("#" * 70_000, 0o600, "larger than 64 KiB"),
    ],
)
def test_a_bad_file_is_named_and_not_shown(
    tmp_path: Path, text: str | bytes, mode: int, error: str
) -> None:
    file = written(tmp_path / "k", text, mode)
    with pytest.raises(ConfigError) as caught:
        keys.load(file)
    assert error in str(caught.value)
    assert str(file) in str(caught.value)
    assert "%s%s" not in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path, error in ((tmp_path, "Is a directory"), (tmp_path / "x" / "y", "No such file")):
        with pytest.raises(ConfigError, match=error):
            keys.load(path)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who made it beforehand, in a directory that is not control's alone, would be let in by it."""
    file = written(tmp_path / "k", GOOD, 0o600)
    if os.geteuid() == 0:
        os.chown(file, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(ConfigError, match=r"belongs to another user .*chown"):
        keys.load(file)
    with pytest.raises(ConfigError, match=r"belongs to another user .*chown"):
        keys.load(file, owner=4712)
    assert keys.load(file, owner=file.stat().st_uid)
