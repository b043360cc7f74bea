from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.cli import main, output, render
from agent.model.network_views import (
    DeviceView,
    FleetPeerView,
    NetworkView,
    PoolView,
    RuleView,
    SandboxView,
    TraceStep,
)

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Source

TASK = "arn:aws:ecs:eu-central-1:123456789012:task/production/0123456789abcdef0123456789abcdef"
VIEW = NetworkView(
    pools=[
        PoolView(
            cidr="10.207.0.0/20", gateway="10.207.0.1", interface="ecs-br0", mtu=1500, size=4093,
            held=2, resting=1,
        )
    ],
    sandboxes=[
        SandboxView(
            ipv4="10.207.15.254", state="CLAIMED", task=TASK, mac="0a:58:0a:cf:0f:fe",
            interface="ecs0acf0ffe", mtu=1500, container_id="f" * 64, pid=7,
        ),
        SandboxView(
            ipv4="10.207.0.3", state="WARM", task="", mac="0a:58:0a:cf:00:03",
            interface="ecs0acf0003", mtu=1500, container_id="e" * 64, pid=8,
        ),
    ],
    devices=[
        DeviceView(
            name="ecs-br0", kind="bridge", state="UP", mtu=1500, ipv4="", rx_bytes=3 << 40,
            rx_packets=10, tx_bytes=1, tx_packets=1,
        ),
        DeviceView(
            name="ecs0acf0ffe", kind="task", state="DOWN", mtu=1500, ipv4="10.207.15.254",
            rx_bytes=1023 << 20, rx_packets=5, tx_bytes=1023 << 30, tx_packets=2,
        ),
    ],
    rules=[
        RuleView(
            family="inet", table="ecs_agent", chain="sources", packets=4294967296,
            rule="a task's address from elsewhere, with a long explanation of what that is",
            bytes=3 << 40,
        ),
        RuleView(
            family="bridge", table="ecs_agent", chain="from_task", rule="own packets", packets=None,
            bytes=None,
        ),
    ],
    problems=["tasks are not isolated from each other"],
)  # fmt: skip


async def run(path: str, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["network", *arguments, "--socket", path])


async def test_tables_in_a_pipe_are_complete(
    agent_socket: str, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    source.networks.shown = VIEW
    assert await run(agent_socket) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "10.207.0.0/20", "10.207.0.1", "ecs-br0", "1500", "2", "1", "4093",
    ]  # fmt: skip
    assert any(line.split()[2:3] == [TASK.rpartition("/")[2]] for line in lines)
    assert any("4294967296  3.0 TiB" in line for line in lines)
    assert lines[-1] == "! tasks are not isolated from each other"


async def test_tables_fit_80_columns(
    agent_socket: str,
    source: Source,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.networks.shown = VIEW
    monkeypatch.setattr(render, "on_terminal", lambda: True)
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert await run(agent_socket) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for shown in ("10.207.15.254", "0123456789ab", "own packets", "1023.0 GiB", "Rules"):
        assert shown in out


async def test_json_is_the_view_itself(
    agent_socket: str, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    source.networks.shown = VIEW
    assert await run(agent_socket, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sandboxes"][0]["task"] == TASK
    assert shown["rules"][1]["packets"] is None


async def test_check_fails_while_something_differs(
    agent_socket: str, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(agent_socket, "check") == 1
    assert capsys.readouterr().out.splitlines() == [
        "bridge ecs-br0 was down",
        "link ecs0acf0002 was gone",
        "mend them with 'ecs-agent network check --repair'",
    ]
    source.networks.cannot_repair = ["link ecs0acf0002 was gone"]
    assert await run(agent_socket, "check", "--repair") == 1
    assert capsys.readouterr().out.splitlines() == [
        "repaired: bridge ecs-br0 was down",
        "link ecs0acf0002 was gone",
    ]
    source.networks.cannot_repair = []
    assert await run(agent_socket, "check", "--repair", "--json") == 0
    assert json.loads(capsys.readouterr().out)["differences"][0]["repaired"] is True
    source.networks.found = []
    assert await run(agent_socket, "check") == 0
    assert capsys.readouterr().out == "no differences\n"


@pytest.mark.parametrize("option", [["--json"], ["--socket", "/nowhere"]])
def test_an_option_before_the_subcommand_is_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["network", *option, "check"]) == 2
    assert "write options after 'check'" in capsys.readouterr().err


DROPPING = TraceStep(
    family="ip", table="filter", chain="FORWARD", verdict="drop",
    rule='iifname "ecs-br0" counter packets 3 bytes 180 drop with much more text behind it',
)  # fmt: skip
PASSING = TraceStep(
    family="inet", table="ecs_agent", chain="between", verdict="accept", rule="task to outside"
)


async def test_trace_names_what_lets_a_connection_through(
    agent_socket: str, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    source.networks.trace_view = replace(source.networks.trace_view, steps=[PASSING])
    assert await run(agent_socket, "trace", "aa11", "10.0.0.9", "80") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "10.207.0.2 to 10.0.0.9 port 80/tcp is let through by 'task to outside': connected"
    )
    assert source.networks.traced == [("aa11", ["c1"], "10.0.0.9", 80, "tcp")]


async def test_trace_names_what_drops_a_connection(
    agent_socket: str,
    source: Source,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.networks.trace_view = replace(
        source.networks.trace_view, answer="no answer", steps=[PASSING, DROPPING],
        dropped_by=DROPPING,
    )  # fmt: skip
    monkeypatch.setattr(render, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert await run(agent_socket, "trace", "aa11", "10.0.0.9", "80/tcp") == 1
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "is dropped by" in out
    assert "chain FORWARD of table ip filter" in " ".join(out.split())


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"answer": "no answer", "protocol": "udp", "steps": [PASSING]}, 0, "no answer"),
        ({"answer": "refused", "steps": [PASSING]}, 1, "refused"),
        ({"source": "", "answer": "no route in the task's namespace"}, 1, "its own routes"),
        ({"answer": "no answer"}, 1, "no nftables rule of this host saw the packet"),
    ],
)
async def test_trace_tells_what_happened_otherwise(
    agent_socket: str,
    source: Source,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    code: int,
    text: str,
) -> None:
    source.networks.trace_view = replace(source.networks.trace_view, **changes)
    assert await run(agent_socket, "trace", "aa11", "10.0.0.9", "53/udp") == code
    assert text in capsys.readouterr().out
    assert source.networks.traced[0][4] == "udp"


@pytest.mark.parametrize("port", ["0", "65536", "http", "80/icmp", "1" * 5000])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["network", "trace", "aa11", "10.0.0.9", port]) == 2
    assert " is not a " in capsys.readouterr().err


async def test_other_hosts_are_shown_with_what_went_through_their_tunnels(
    agent_socket: str, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    by_route = FleetPeerView(
        id="a" * 32, range="10.208.1.0/24", address="192.0.2.2", driver="routes", problem="no link",
        last_handshake=0, rx_bytes=0, tx_bytes=0,
    )  # fmt: skip
    tunnel = replace(by_route, id="b" * 32, driver="wireguard", problem="", rx_bytes=3 << 20)
    used = replace(tunnel, id="c" * 32, last_handshake=1.0)
    source.networks.shown = replace(VIEW, peers=[by_route, tunnel, used])
    assert await run(agent_socket) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["a" * 32].split()[1:] == [
        "10.208.1.0/24", "routes", "192.0.2.2", "NOT", "REACHED", "-", "-", "-",
    ]  # fmt: skip
    assert lines["b" * 32].split()[1:8] == [
        "10.208.1.0/24", "wireguard", "192.0.2.2", "REACHED", "never", "3.0", "MiB",
    ]  # fmt: skip
    assert " ago" in lines["c" * 32]
