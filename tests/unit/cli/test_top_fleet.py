"""``ecs-agent top --fleet``: hosts and tasks of a cluster as control knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.cli import main, top_fleet
from agent.cli.top_text import Sight
from agent.model.fleet_views import FleetHostView, FleetTaskView, FleetView

if TYPE_CHECKING:
    from pathlib import Path

AT = 1_700_000_000.0
FLEET = FleetView(
    cluster="prod",
    at=AT,
    hosts=[
        FleetHostView(
            id="a" * 32,
            status="ACTIVE",
            connected=True,
            tasks_running=2,
            tasks_pending=1,
            cpu_reserved_units=1024,
            cpu_total_units=4096,
            memory_reserved_mib=512,
            memory_offered_mib=2048,
            at=AT - 12,
            cpu_units=1536.0,
            memory_used_bytes=float(1 << 30),
            memory_total_bytes=float(8 << 30),
        ),
        FleetHostView(id="b" * 32, ec2_instance_id="i-0123456789abcdef0", status="DRAINING"),
    ],
    tasks=[
        FleetTaskView(
            id="c" * 32,
            family="web",
            revision=3,
            group="service:shop",
            instance_id="a" * 32,
            status="RUNNING",
            started_at=AT - 7200,
            at=AT - 12,
            cpu_units=512.0,
            memory_bytes=float(64 << 20),
            receive_bytes_per_s=2048.0,
            transmit_bytes_per_s=0.0,
        ),
        FleetTaskView(id="d" * 32, family="batch", revision=1, status="PENDING"),
    ],
)


def lines(view: FleetView, width: int = 80, height: int = 24, words: str = "") -> list[str]:
    shown = top_fleet.screen(view, len(FLEET.tasks), Sight(width, height, "cpu", words))
    return [line.text for line in shown]


def test_80_columns_show_hosts_and_tasks() -> None:
    shown = lines(FLEET)
    assert shown[0].startswith("cluster prod   hosts: 1 of 2 connected   tasks: 1 of 2 running")
    assert shown[3].split() == [
        "aaaaaaaaaaaa", "ACTIVE", "2+1", "150", "400", "1.0G/8.0G", "-", "25%/25%", "12s",
    ]  # fmt: skip
    # One that is away has no figures, and these are not zero.
    assert shown[4].split()[1:] == ["AWAY", "0", "-", "-", "-", "-", "-/-", "-"]
    assert shown[7].split()[1:] == ["web:3", "aaaaaaaa", "RUNNING", "50.0", "64M", "2.0K/0B", "2h"]
    assert shown[8].split()[1:] == ["batch:1", "-", "PENDING", "-", "-", "-", "-"]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [0, 8, 24])
def test_a_large_fleet_fits_the_window(width: int, height: int) -> None:
    many = replace(FLEET, hosts=FLEET.hosts * 50, tasks=FLEET.tasks * 500)
    shown = lines(many, width, height)
    assert max(map(len, shown)) <= width
    if height:
        assert len(shown) <= height
        assert any("more hosts" in line for line in shown)
        assert "more tasks" in shown[-1]


@pytest.mark.parametrize(
    ("words", "left"),
    [("WEB", ["web"]), ("service:shop", ["web"]), ("aaaa", ["web"]), ("dd", ["batch"]), ("x", []),
     ("", ["web", "batch"])],
)  # fmt: skip
def test_a_filter_also_finds_services_and_hosts(words: str, left: list[str]) -> None:
    found = top_fleet.chosen(FLEET, sort="cpu", words=words)
    assert [task.family for task in found.tasks] == left


@pytest.mark.parametrize("sort", ["cpu", "memory", "network", "uptime", "name"])
def test_tasks_without_a_figure_come_last(sort: str) -> None:
    found = top_fleet.chosen(FLEET, sort=sort, words="")
    first = "batch" if sort == "name" else "web"
    assert found.tasks[0].family == first


def test_nothing_to_show_is_said() -> None:
    found = top_fleet.chosen(FLEET, sort="cpu", words="x")
    assert lines(found, words="x")[-1] == "none of 2 tasks matches 'x'"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--fleet", "--sort", "io"], 2, "control has no values to sort by io; use cpu, memory"),
        (["--cluster", "prod"], 2, "--cluster is for --fleet"),
        (["--fleet", "--data-dir", "DIR"], 1, "no control endpoint has run"),
    ],
)
def test_wrong_options_are_refused(
    words: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", *(str(tmp_path) if word == "DIR" else word for word in words)]) == code
    assert told in capsys.readouterr().err
