"""Versions and dates of what is packaged."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from packager import PackagingError
from packager.source import Source, Version, find

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def no_date_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "agent").mkdir(parents=True)
    (root / "agent" / "__init__.py").write_text('"""It."""\n\n__version__ = "0.3.0"\n')
    (root / "pyproject.toml").write_text('[project]\nname = "it"\nversion = "0.3.0"\n')
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "Begin")
    return root


def git(root: Path, *arguments: str) -> None:
    who = {"NAME": "A", "EMAIL": "a@example.org", "DATE": "2026-02-03T04:05:06+0100"}
    environment = {f"GIT_{role}_{k}": v for k, v in who.items() for role in ("AUTHOR", "COMMITTER")}
    subprocess.run(["git", *arguments], cwd=root, env={**os.environ, **environment}, check=True)


def test_a_commit_sorts_before_its_release_and_after_the_one_before() -> None:
    earlier = Version("0.3.0", "20260203030506", "abcdef0")
    assert earlier.package == "0.3.0~git20260203030506.abcdef0"
    assert earlier.python == "0.3.0.dev20260203030506+gabcdef0"
    order = ["0.2.9", earlier.package, "0.3.0~git20260203030507.0000000", "0.3.0"]
    for low, high in itertools.pairwise(order):
        subprocess.run(["dpkg", "--compare-versions", low, "lt", high], check=True)


def test_a_commit_gives_its_version_and_date(checkout: Path) -> None:
    found = find(checkout)
    assert found.version.release == "0.3.0"
    assert found.version.moment == "20260203030506"
    assert not found.version.commit.endswith(".dirty")
    assert found.epoch_s == 1770087906


def test_a_changed_file_shows_in_the_version(checkout: Path) -> None:
    (checkout / "new").write_text("")
    assert find(checkout).version.package.endswith(".dirty")


def test_a_tagged_commit_is_the_release(checkout: Path) -> None:
    git(checkout, "tag", "v0.3.0")
    assert find(checkout).version == Version("0.3.0")
    git(checkout, "tag", "--delete", "v0.3.0")
    git(checkout, "tag", "v0.2.0")
    assert find(checkout).version != Version("0.3.0")


def test_a_version_can_be_given(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    found = find(checkout, release="1.2.3")
    assert (found.version.package, found.epoch_s) == ("1.2.3", 86400)
    with pytest.raises(PackagingError, match=r"is not of the form 1\.2\.3"):
        find(checkout, release="1.2-rc")


def test_the_staged_source_has_the_version_and_nothing_that_git_ignores(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / "agent" / "__pycache__").mkdir()
    (checkout / "agent" / "__pycache__" / "x.pyc").write_bytes(b"x")
    find(checkout, release="1.2.3").stage(tmp_path / "stage")
    staged = {p.relative_to(tmp_path / "stage").as_posix() for p in (tmp_path / "stage").rglob("*")}
    assert staged == {"agent", "agent/__init__.py", "pyproject.toml", ".gitignore"}
    assert '__version__ = "1.2.3"' in (tmp_path / "stage/agent/__init__.py").read_text()
    assert 'version = "1.2.3"' in (tmp_path / "stage/pyproject.toml").read_text()


def test_a_tree_without_git_is_packaged_under_its_plain_version(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / ".git").rename(tmp_path / "elsewhere")
    (checkout / "agent" / "__pycache__").mkdir()
    (checkout / "agent" / "__pycache__" / "x.pyc").write_bytes(b"x")
    found: Source = find(checkout)
    assert found.version == Version("0.3.0")
    found.stage(tmp_path / "stage")
    assert not (tmp_path / "stage/agent/__pycache__").exists()
    assert (tmp_path / "stage/agent/__init__.py").exists()


def test_a_checkout_on_a_machine_without_git_is_packaged_without_its_history(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find(checkout)
    found.stage(tmp_path / "stage")
    assert found.version == Version("0.3.0")
    assert not (tmp_path / "stage/.git").exists()
