"""What a killed engine forgot is told apart from what agents leave behind."""

from __future__ import annotations

import subprocess

import pytest

from tests.chaos.leftovers import remove_forgotten_links
from tests.support.leaks import HostSnapshot

pytestmark = pytest.mark.integration


def test_only_links_of_the_engine_with_both_ends_here_are_forgotten() -> None:
    before = HostSnapshot.take().links
    pairs = (("veth69e6898", "vethaa6dcd7"), ("veth0000001", "ecs0adb0401"), ("ecs1", "ecs2"))
    for one, other in pairs:
        words = ["ip", "link", "add", one, "type", "veth", "peer", "name", other]
        subprocess.run(words, check=True)
    try:
        assert remove_forgotten_links() == 2
        left = HostSnapshot.take().links - before
        assert left == {"veth0000001", "ecs0adb0401", "ecs1", "ecs2"}
    finally:
        for one, _ in pairs:
            subprocess.run(["ip", "link", "del", one], check=False, capture_output=True)
