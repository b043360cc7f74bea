"""Dynamic host ports: cursor, promises, ranges, and the bind test on real sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError, PayloadError
from agent.network import host_ports
from agent.network.host_ports import HostPorts

if TYPE_CHECKING:
    from pathlib import Path


def always(protocol: str, port: int) -> bool:
    del protocol, port
    return True


def test_the_cursor_goes_round() -> None:
    picker = HostPorts((100, 103), is_free=always)
    assert [picker.pick("tcp")[0] for _ in range(3)] == [100, 101, 102]
    picker.release("tcp", [100, 101, 102])
    assert picker.pick("tcp") == [103]
    assert picker.pick("tcp") == [100]


def test_protocols_do_not_share_ports() -> None:
    picker = HostPorts((100, 100), is_free=always)
    assert picker.pick("tcp") == [100]
    assert picker.pick("udp") == [100]


def test_a_range_is_contiguous_and_may_straddle_the_cursor() -> None:
    picker = HostPorts((100, 109), is_free=always)
    assert picker.pick("tcp", 7) == list(range(100, 107))
    picker.release("tcp", range(100, 107))
    assert picker.pick("tcp", 4) == [100, 101, 102, 103]
    picker.release("tcp", range(100, 104))
    assert picker.pick("tcp", 10) == list(range(100, 110))


def test_ports_held_before_a_restart_are_not_picked() -> None:
    picker = HostPorts((100, 103), is_free=always)
    picker.hold("tcp", [100, 102])
    assert [picker.pick("tcp")[0] for _ in range(2)] == [101, 103]


def test_errors_are_those_of_ecs() -> None:
    picker = HostPorts((100, 103), is_free=lambda protocol, port: port != 102)
    with pytest.raises(PayloadError) as info:
        picker.pick("udp", 3)
    assert info.value.name == "HostConfigError"
    assert str(info.value) == (
        "error retrieving docker port map: no 3 contiguous host ports available for udp in 100-103"
    )
    with pytest.raises(PayloadError, match="error retrieving docker port map: protocol 'sctp'"):
        picker.pick("sctp")
    with pytest.raises(ConfigError, match="ECS_DYNAMIC_HOST_PORT_RANGE=9-3"):
        HostPorts((9, 3))


@given(
    taken=st.sets(st.integers(200, 229)),
    wishes=st.lists(st.tuples(st.sampled_from(["tcp", "udp"]), st.integers(1, 6)), max_size=20),
)
def test_no_port_is_given_twice_and_none_is_missed(
    taken: set[int], wishes: list[tuple[str, int]]
) -> None:
    picker = HostPorts((200, 229), is_free=lambda protocol, port: port not in taken)
    given_out: dict[str, set[int]] = {"tcp": set(), "udp": set()}
    for protocol, count in wishes:
        free = set(range(200, 230)) - taken - given_out[protocol]
        possible = any(set(range(p, p + count)) <= free for p in free)
        if not possible:
            with pytest.raises(PayloadError):
                picker.pick(protocol, count)
            continue
        run = picker.pick(protocol, count)
        assert run == list(range(run[0], run[0] + count))
        assert set(run) <= free
        given_out[protocol].update(run)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_bind_test_sees_real_sockets(kind: socket.SocketKind) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert not host_ports.can_bind(protocol, port)
        with pytest.raises(PayloadError, match=f"in {port}-{port}"):
            HostPorts((port, port)).pick(protocol)
    assert HostPorts((port, port)).pick(protocol) == [port]


def test_the_kernel_range_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "range"
    file.write_text("32768\t60999\n")
    assert host_ports.kernel_range(str(file)) == (32768, 60999)
    file.write_text("nonsense")
    assert host_ports.kernel_range(str(file)) == (49153, 65535)
    assert host_ports.kernel_range(str(tmp_path / "absent")) == (49153, 65535)
    first, last = host_ports.kernel_range()
    assert first <= HostPorts().pick("tcp")[0] <= last
