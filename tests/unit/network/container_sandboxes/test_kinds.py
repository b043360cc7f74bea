"""Kinds of sandboxes: their ports, and their labels read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.container_sandboxes import kinds
from agent.network.container_sandboxes.kinds import MOST_PORTS, Kind

PORTS = st.builds(
    lambda first, more, protocol: (
        f"{first}/{protocol}" if not more else f"{first}-{first + more}/{protocol}"
    ),
    st.integers(1, 65_000),
    st.integers(0, 3),
    st.sampled_from(["tcp", "udp"]),
)
KINDS = st.builds(Kind, st.just("bridge"), st.lists(PORTS, max_size=MOST_PORTS // 4).map(tuple))


@given(KINDS)
def test_a_label_is_read_as_it_was_written(kind: Kind) -> None:
    assert kinds.read(kind.mode, kind.text) == kind


@given(KINDS)
def test_each_container_port_has_a_host_port_of_its_own(kind: Kind) -> None:
    free = iter(range(40_000, 41_000))
    picked = [[next(free) for _ in numbers] for numbers, _ in kind.mappings()]
    bindings = kind.bindings(picked)

    assert kind.fits(bindings)
    hosts = [host for each in bindings.values() for host in each]
    assert sorted(hosts) == sorted(host for run in picked for host in run)
    assert sorted(host for _, each in kinds.held_ports(bindings) for host in each) == sorted(hosts)


def test_a_range_keeps_its_order_and_a_port_twice_has_two() -> None:
    kind = Kind("bridge", ("80/tcp", "8000-8001/udp", "80/tcp"))

    assert kind.bindings([[1], [2, 3], [4]]) == {
        "80/tcp": [1, 4], "8000/udp": [2], "8001/udp": [3]
    }  # fmt: skip
    assert not kind.fits({"80/tcp": [1], "8000/udp": [2], "8001/udp": [3]})
    assert not kind.fits({})
    assert Kind("bridge").fits({"80/tcp": []})


@pytest.mark.parametrize("text", ["x/tcp", "/tcp", "1-x/tcp", "1-100/tcp"])
def test_a_label_that_is_not_ours_is_no_kind(text: str) -> None:
    assert kinds.read("bridge", text) is None


def test_a_sandbox_of_an_earlier_version_is_known_for_what_it_is() -> None:
    assert kinds.read("none", "") == Kind("none")


def test_other_modes_and_many_ports_have_no_sandboxes() -> None:
    assert not Kind("host").is_kept
    assert not Kind("none").is_kept
    assert not Kind("bridge", (f"1-{MOST_PORTS + 1}/tcp",)).is_kept
    assert Kind("bridge", (f"1-{MOST_PORTS}/tcp",)).is_kept


def test_the_body_publishes_what_was_picked_and_nothing_else() -> None:
    plain = kinds.body("pause", Kind("bridge"), "me", {})
    web = kinds.body("pause", Kind("bridge", ("80/tcp",)), "me", {"80/tcp": [40_000]})

    assert plain["Labels"] == {kinds.LABEL: "me"}
    assert "PortBindings" not in plain["HostConfig"]
    assert web["Labels"] == {kinds.LABEL: "me", kinds.PORTS_LABEL: "80/tcp"}
    assert web["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostPort": "40000"}]}
    assert web["HostConfig"]["CapDrop"] == ["ALL"]
