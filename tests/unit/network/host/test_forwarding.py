"""Forwarding is on, and links that take router advertisements go on to do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.network.host import forwarding

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    values = {
        "ipv4/ip_forward": "0",
        "ipv4/conf/br/forwarding": "0",
        "ipv6/conf/all/forwarding": "0",
    }
    values |= {"ipv6/conf/br/forwarding": "0", "ipv6/conf/br/accept_ra": "0"}
    values |= {"ipv6/conf/eth0/accept_ra": "1", "ipv6/conf/eth1/accept_ra": "2"}
    for name, value in values.items():
        path = tmp_path / "net" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n", encoding="ascii")
    return tmp_path


def _read(root: Path, name: str) -> str:
    return (root / "net" / name).read_text(encoding="ascii").strip()


def test_without_ipv6_its_switches_are_left_alone(root: Path) -> None:
    forwarding.turn_on("br", root=root)
    assert forwarding.switches_off("br", root=root) == []
    assert _read(root, "ipv6/conf/all/forwarding") == "0"
    assert _read(root, "ipv6/conf/eth0/accept_ra") == "1"


def test_links_go_on_with_advertisements(root: Path) -> None:
    assert forwarding.switches_off("br", ipv6=True, root=root) == [
        "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.br.forwarding",
        "net.ipv6.conf.br.forwarding",
    ]  # fmt: skip
    forwarding.turn_on("br", ipv6=True, root=root)
    assert forwarding.switches_off("br", ipv6=True, root=root) == []
    found = [_read(root, f"ipv6/conf/{link}/accept_ra") for link in ("br", "eth0", "eth1")]
    assert found == ["0", "2", "2"]


def test_a_host_that_forwards_already_is_not_touched(root: Path) -> None:
    (root / "net/ipv6/conf/all/forwarding").write_text("1\n", encoding="ascii")
    forwarding.turn_on("br", ipv6=True, root=root)
    assert _read(root, "ipv6/conf/eth0/accept_ra") == "1"


def test_a_switch_that_cannot_be_set_is_named(root: Path) -> None:
    (root / "net/ipv4/ip_forward").unlink()
    (root / "net/ipv4/ip_forward").mkdir()
    with pytest.raises(NetworkFailure, match=r"net\.ipv4\.ip_forward cannot be set to 1"):
        forwarding.turn_on("br", root=root)
