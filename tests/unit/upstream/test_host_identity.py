"""What a machine says of itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.upstream import host_identity
from agent.upstream.host_identity import Machine, read_machine

if TYPE_CHECKING:
    from pathlib import Path

MACHINE, UUID = "0123456789abcdef0123456789abcdef", "11111111-2222-3333-4444-555555555556"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in (
        ("etc/machine-id", MACHINE),
        ("sys/class/dmi/id/product_uuid", UUID),
        ("proc/sys/kernel/random/boot_id", "boot-1"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
    return tmp_path


def test_is_the_same_again_and_shows_nothing(root: Path, tmp_path: Path) -> None:
    machine = read_machine(tmp_path / "data", root=root)
    assert machine == read_machine(tmp_path / "data" / ".." / "data", root=root)
    assert machine.boot_id == "boot-1"
    said = {machine.id, machine.key, machine.owner}
    assert len(said) == 3
    assert not any(fact in word for word in said for fact in (MACHINE, UUID))


@pytest.mark.parametrize("what", ["machine-id", "product_uuid", "directory", "name"])
def test_is_another_for_another_host(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before = read_machine(tmp_path / "data", root=root)
    data = tmp_path / "data"
    if what == "machine-id":
        (root / "etc/machine-id").write_text(MACHINE[::-1])
    elif what == "product_uuid":
        (root / "sys/class/dmi/id/product_uuid").write_text(UUID[::-1])
    elif what == "directory":
        data = tmp_path / "other"
    else:
        names = os.uname()
        other = os.uname_result((names[0], "elsewhere", *names[2:]))
        monkeypatch.setattr(os, "uname", lambda: other)
    after = read_machine(data, root=root)
    assert not {before.id, before.key, before.owner} & {after.id, after.key, after.owner}


@pytest.mark.parametrize("text", ["", "uninitialized\n"])
def test_without_a_machine_id_it_says_nothing(root: Path, tmp_path: Path, text: str) -> None:
    (root / "etc/machine-id").write_text(text)
    assert read_machine(tmp_path, root=root) == Machine(boot_id="boot-1")
    (root / "etc/machine-id").unlink()
    assert read_machine(tmp_path, root=root) == Machine(boot_id="boot-1")


def test_a_number_that_all_boards_carry_is_none(root: Path) -> None:
    path = root / "sys/class/dmi/id/product_uuid"
    for number in ("00000000-0000-0000-0000-000000000000", "03000200-0400-0500-0006-000700080009"):
        path.write_text(number)
        assert host_identity.product_uuid(root) == ""
    path.write_text(UUID.upper())
    assert host_identity.product_uuid(root) == UUID
