"""How many connections a descriptor limit allows, and raising that limit."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.listening.limits import Limits, for_servers


@given(st.integers(512, 10**6), st.integers(1, 8))
def test_servers_never_take_all_descriptors_and_keep_room_for_known_senders(
    descriptors: int, servers: int
) -> None:
    found = for_servers(descriptors, servers)
    assert found.connections * servers <= max(descriptors - 200, 16 * servers)
    assert found.unproven + found.silent <= found.connections // 2
    assert 0 < found.unproven_per_address <= found.unproven
    assert 0 < found.silent_per_address <= found.silent


def test_plenty_of_descriptors_give_what_is_the_default() -> None:
    assert for_servers(10**6, 3) == Limits()


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "told"),
    [
        (256, 4096, 65536, 4096),
        (1024, 1024, 65536, 1024),
        (256, 4096, 2048, 2048),
        (900, 4096, 512, 900),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_goes(
    soft: int, hard: int, wanted: int, told: int
) -> None:
    """In a process of its own: the limit is the whole process's."""
    program = (
        "import resource\nfrom agent.listening.limits import raise_descriptor_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"print(raise_descriptor_limit({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(told), str(told)]
