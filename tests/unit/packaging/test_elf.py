"""Compiled modules lose what only a debugger reads, and nothing that the loader does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from packager import PackagingError, elf

CORE = Path(msgspec._core.__file__)


def test_a_module_is_smaller_and_still_works(tmp_path: Path) -> None:
    whole = CORE.read_bytes()
    stripped = elf.strip(whole, "core")
    assert len(stripped) < len(whole)
    path = tmp_path / CORE.name
    path.write_bytes(stripped)
    program = (
        "import importlib.machinery, importlib.util, sys, msgspec, msgspec._core\n"
        f"loader = importlib.machinery.ExtensionFileLoader('msgspec._core', {str(path)!r})\n"
        "spec = importlib.util.spec_from_loader('msgspec._core', loader)\n"
        "core = importlib.util.module_from_spec(spec); loader.exec_module(core)\n"
        "assert core.__file__ != msgspec._core.__file__\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_readelf_finds_it_in_order(tmp_path: Path) -> None:
    path = tmp_path / "core.so"
    path.write_bytes(elf.strip(CORE.read_bytes(), "core"))
    shown = {}
    for file in (CORE, path):
        command = ["readelf", "--wide", "--segments", "--dynamic", "--dyn-syms", str(file)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert answer.stderr == ""
        shown[file] = answer.stdout
    assert shown[path].replace(str(path), "") == shown[CORE].replace(str(CORE), "")


def test_stripping_again_changes_nothing() -> None:
    once = elf.strip(CORE.read_bytes(), "core")
    assert elf.strip(once, "core") == once


def test_something_else_is_refused() -> None:
    with pytest.raises(PackagingError, match=r"x\.so is not an ELF file"):
        elf.strip(b"MZ", "x.so")
