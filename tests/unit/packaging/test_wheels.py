"""The lock file, which entries apply where, and wheels unpacked side by side."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from packager import PackagingError, wheels

MODULE = b"\x7fELF\x02\x01\x01".ljust(64, b"\0")  # a head that names neither segments nor sections
ROOT = Path(__file__).parents[3]


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> wheels.Wheel:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheels.Wheel(folder / name, ("3.11",))


def test_an_entry_has_its_version_hashes_and_marker() -> None:
    text = (
        "Some.Thing==1.2 ; python_full_version < '3.13' \\\n"
        "    --hash=sha256:aa \\\n"
        "    --hash=sha256:bb\n"
        "# a comment\n"
        "other==3 \\\n    --hash=sha256:cc\n"
    )
    first, second = wheels.read_lock(text)
    assert (first.name, first.hashes) == ("some-thing", ("sha256:aa", "sha256:bb"))
    assert first.line() == "Some.Thing==1.2 --hash=sha256:aa --hash=sha256:bb"
    old, new = (
        [e.name for e in wheels.wanted([first, second], python=python, architecture="amd64")]
        for python in ("3.12", "3.13")
    )
    assert old == ["some-thing", "other"]
    assert new == ["other"]


@pytest.mark.parametrize(
    "entry", ["loose>=1 --hash=sha256:aa", "bare==1", "a b c --hash=sha256:aa"]
)
def test_an_entry_that_is_not_pinned_is_refused(entry: str) -> None:
    with pytest.raises(PackagingError, match=r"requirements\.lock: "):
        wheels.read_lock(entry + "\n")


def test_the_lock_file_is_read_whole() -> None:
    text = (ROOT / "requirements.lock").read_text()
    locked = wheels.read_lock(text)
    assert {entry.name for entry in locked} > {"aiohttp", "botocore", "click", "msgspec"}
    assert sum(len(entry.hashes) for entry in locked) == text.count("--hash=")
    needed = wheels.wanted(locked, python="3.11", architecture="arm64")
    assert not {entry.name for entry in needed} & {"pywin32", "win-inet-pton", "pygments"}


def test_modules_of_two_pythons_lie_side_by_side(tmp_path: Path) -> None:
    pair = [
        wheel(
            tmp_path,
            f"it-1-cp{number}-cp{number}-linux_x86_64.whl",
            {
                "it/__init__.py": b"same",
                f"it/core.cpython-{number}-x86_64-linux-gnu.so": MODULE + number.encode(),
                "it/core.c": b"source",
                "it-1.data/scripts/it": b"script",
                "it-1.data/platlib/it/more.py": b"more",
            },
        )
        for number in ("311", "312")
    ]
    left_out = wheels.unpack(pair, tmp_path / "lib", leave_out=[re.compile(r"\.c$")])
    assert left_out == 2 * len(b"source")
    names = {p.relative_to(tmp_path / "lib").as_posix() for p in (tmp_path / "lib").rglob("*.*")}
    assert names == {
        "it/__init__.py",
        "it/core.cpython-311-x86_64-linux-gnu.so",
        "it/core.cpython-312-x86_64-linux-gnu.so",
        "it/more.py",
    }


def test_files_that_differ_between_pythons_are_refused(tmp_path: Path) -> None:
    pair = [
        wheel(tmp_path, f"it-1-cp{n}-cp{n}-linux_x86_64.whl", {"it/__init__.py": n.encode()})
        for n in ("311", "312")
    ]
    with pytest.raises(PackagingError, match="cannot share a package"):
        wheels.unpack(pair, tmp_path / "lib", leave_out=[])


@pytest.mark.parametrize("path", ["../outside", "/outside", "it/../../outside"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    bad = wheel(tmp_path, "it-1-py3-none-any.whl", {path: b"x"})
    with pytest.raises(PackagingError, match="do not trust it"):
        wheels.unpack([bad], tmp_path / "lib", leave_out=[])
