from __future__ import annotations

import pytest

from agent.config import Settings
from agent.doctor.checks import managers
from agent.doctor.checks.managers import Link, Managers
from agent.doctor.findings import Level

VETH = Link(name="ecs0acf0002", kind="veth")
BRIDGE = Link(name="ecs-br0", kind="bridge")
DHCP = "[Network]\nDHCP=yes\n"


@pytest.mark.parametrize(
    ("match", "veth", "bridge"),
    [
        ("Name=*", True, True),
        ("Name=en* eth*", False, False),
        ("Name=!eth*", True, True),
        ("Name=!ecs*", False, False),
        ("Type=ether", True, False),
        ("Type=ether\nKind=!*", False, False),
        ("Driver=veth", True, False),
        ("Name=*\nMACAddress=00:11:22:33:44:55", False, False),
        ("Name=*\n# Driver=virtio_net", True, True),
        ("Name=*\nDriver=virtio_net", False, False),
    ],
)
def test_which_links_a_file_is_for(match: str, veth: bool, bridge: bool) -> None:
    files = {"50-a.network": f"[Match]\n{match}\n{DHCP}"}
    assert bool(managers.file_for(VETH, files)) is veth
    assert bool(managers.file_for(BRIDGE, files)) is bridge


def test_a_file_without_conditions_is_for_nothing() -> None:
    assert not managers.file_for(VETH, {"a.network": DHCP})


def judged(files: dict[str, str]) -> set[str]:
    found = Managers(active=frozenset({"systemd-networkd"}), networkd=files)
    return {finding.level.value for finding in managers.judge(Settings(), found)}


def test_a_catch_all_is_told_with_the_file_that_mends_it() -> None:
    found = Managers(
        active=frozenset({"systemd-networkd"}),
        networkd={"99-all.network": f"[Match]\nName=*\n{DHCP}"},
    )
    (finding,) = managers.judge(Settings(), found)
    assert finding.level is Level.WARNING
    assert "99-all.network" in finding.seen
    assert "Unmanaged=yes" in finding.command


def test_a_file_before_the_catch_all_can_leave_links_alone() -> None:
    ours = "[Match]\nName=ecs* veth* ecs-br0\n[Link]\nUnmanaged=yes\n"
    catch_all = f"[Match]\nName=*\n{DHCP}"
    assert judged({"10-ours.network": ours, "99-all.network": catch_all}) == {"ok"}
    assert judged({"10-all.network": catch_all, "99-ours.network": ours}) == {"warning"}


def test_other_managers() -> None:
    def levels(**seen: object) -> set[str]:
        found = Managers(**seen)  # type: ignore[arg-type]
        return {finding.level.value for finding in managers.judge(Settings(), found)}

    network_manager = frozenset({"NetworkManager"})
    assert levels() == {"ok"}
    assert levels(active=None) == {"warning"}
    assert levels(active=frozenset({"firewalld"}), firewalld_trusts=None) == {"warning"}
    assert levels(active=network_manager) == {"warning"}
    assert levels(active=network_manager, leaves_veth=True) == {"ok"}
    assert levels(active=frozenset({"firewalld"})) == {"warning"}
    assert levels(active=frozenset({"firewalld"}), firewalld_trusts=True) == {"ok"}
