"""``ecs-agent top``: figures and rates of rounds, their order, and lines that fit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from agent.cli import main, top_text
from agent.cli.top_rows import BY_NAME, SORT_KEYS, Round, Rounds, chosen
from agent.cli.top_text import Sight, age, size
from agent.model.metrics import (
    ContainerSample,
    GpuSample,
    HostSample,
    LinkCounters,
    TaskSample,
)
from agent.model.views import ContainerUsage, TaskUsage, UsageView

if TYPE_CHECKING:
    from collections.abc import Sequence

AT = 1_700_000_000.0


def sample(name: str, **figures: object) -> ContainerSample:
    return ContainerSample(name=name, runtime_id=f"id-{name}", **figures)  # type: ignore[arg-type]


def view(at: float = AT, read: int = 1000, link: int = 5000) -> UsageView:
    """A host with a task of two containers that share a network, and one that cannot be measured."""
    pair = TaskUsage(
        arn="arn:1",
        id="aa11bb22cc33",
        family="shop",
        revision="3",
        status="RUNNING",
        containers=[
            ContainerUsage(name="web", status="RUNNING", started_at=AT - 90, restart_count=2),
            ContainerUsage(name="db", status="RUNNING", started_at=AT - 4000),
            ContainerUsage(name="init", status="STOPPED"),
        ],
        sample=TaskSample(
            task_arn="arn:1",
            network=LinkCounters(),
            rx_bytes_per_s=100.0,
            tx_bytes_per_s=2000.0,
            containers=[
                sample(
                    "web",
                    cpu_percent=12.5,
                    memory_bytes=64 << 20,
                    memory_limit_bytes=1 << 30,
                    pids=7,
                ),
                sample(
                    "db",
                    cpu_percent=110.2,
                    memory_bytes=3 << 30,
                    io_read_bytes=read,
                    io_write_bytes=0,
                ),
            ],
        ),
    )
    other = TaskUsage(
        arn="arn:2",
        id="dd44",
        family="batch",
        revision="1",
        status="RUNNING",
        containers=[ContainerUsage(name="job", status="RUNNING")],
    )
    waits = TaskUsage(arn="arn:3", id="ee", family="batch", revision="1", status="PENDING")
    host = HostSample(
        at=at,
        cpus=4,
        cpu_percent=150.0,
        load_1m=1.25,
        memory_used_bytes=3 << 30,
        memory_total_bytes=8 << 30,
        links={"eth0": LinkCounters(rx_bytes=link, tx_bytes=0)},
        gpus=(
            GpuSample(uuid="GPU-1", name="Tesla T4", utilization_percent=33.0, power_watts=60.0),
        ),
    )
    return UsageView(host_name="h1", at=at, host=host, tasks=[pair, other, waits])


def second() -> Round:
    rounds = Rounds()
    rounds.take(view())
    taken = rounds.take(view(AT + 2, read=5000, link=25_000))
    assert taken is not None
    return taken


def names(rows: Sequence[object]) -> list[str]:
    return [getattr(row, "container", "") for row in rows]


def test_rates_need_two_rounds_and_a_counter_that_went_on() -> None:
    rounds = Rounds()
    assert rounds.take(UsageView(host_name="h1")) is None
    first = rounds.take(view())
    assert first is not None
    assert {row.read_bytes_per_s for row in first.containers} == {None}
    assert first.host.receive_bytes_per_s is None
    then = rounds.take(view(AT + 2, read=5000, link=25_000))
    assert then is not None
    by_name = {row.container: row for row in then.containers}
    assert (by_name["db"].read_bytes_per_s, by_name["db"].write_bytes_per_s) == (2000.0, 0.0)
    assert then.host.receive_bytes_per_s == 10_000.0
    began_anew = rounds.take(view(AT + 4, read=10, link=25_000))
    assert began_anew is not None
    assert {row.container: row.read_bytes_per_s for row in began_anew.containers}["db"] is None


def test_what_is_not_measured_is_missing_and_not_zero() -> None:
    job = next(row for row in second().containers if row.container == "job")
    assert (job.cpu_percent, job.memory_bytes, job.pids, job.uptime_s) == (None,) * 4
    assert top_text.row_cells(job) == ["dd44", "batch", "job", "-", "-", "-", "-", "-", "0", "-"]


def test_containers_that_share_a_network_show_the_traffic_of_their_task() -> None:
    rows = [row for row in second().containers if row.family == "shop"]
    assert [row.receive_bytes_per_s for row in rows] == [100.0, 100.0]
    assert names(rows) == ["web", "db"]  # the one that has stopped uses nothing


@pytest.mark.parametrize(
    ("sort", "first"),
    [("cpu", "db"), ("memory", "db"), ("io", "db"), ("restarts", "web"), ("uptime", "db"),
     ("pids", "web"), ("network", "db"), (BY_NAME, "job")],
)  # fmt: skip
def test_rows_are_sorted_and_unknown_figures_come_last(sort: str, first: str) -> None:
    rows = chosen(second().containers, sort=sort)
    assert rows[0].container == first
    if sort not in (BY_NAME, "restarts"):
        assert SORT_KEYS[sort](rows[-1]) is None


@pytest.mark.parametrize(
    ("words", "left"),
    [("SHOP", ["db", "web"]), ("shop:3", ["db", "web"]), ("we", ["web"]), ("aa11", ["db", "web"]),
     ("bb22", []), ("", ["db", "web", "job"])],
)  # fmt: skip
def test_a_filter_is_part_of_a_name_or_the_beginning_of_an_id(words: str, left: list[str]) -> None:
    assert names(chosen(second().containers, sort="cpu", words=words)) == left


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 250])
@pytest.mark.parametrize("height", [0, 4, 8, 24])
def test_no_line_is_wider_and_nothing_is_longer_than_the_window(width: int, height: int) -> None:
    round_ = second()
    many = [replace(round_.containers[0], container=f"c{n}" * 30) for n in range(40)]
    lines = top_text.screen(round_, many, Sight(width, height, trouble="the agent " * 20))
    assert max(len(line.text) for line in lines) <= width
    if height:
        assert len(lines) <= height


def test_80_columns_show_every_figure() -> None:
    rows = chosen(second().containers, sort="cpu")
    lines = [line.text for line in top_text.screen(second(), rows, Sight(80, 24))]
    assert lines[0].startswith("h1   tasks: 2 running, 1 pending, 3 containers")
    assert lines[1] == "cpu 150 of 400 %   load 1.25   memory 3.0G of 8.0G   network 9.8K/0B per s"
    assert lines[2] == "gpu 0 Tesla T4   33.0 %   60 W"
    assert lines[4].split() == [
        "TASK", "CONTAINER", "CPU", "%", "MEM/LIMIT", "NET", "IN/OUT", "DISK", "R/W", "PIDS",
        "RST", "UP",
    ]  # fmt: skip
    assert lines[5].split() == [
        "aa11bb22", "db", "110", "3.0G", "100B/2.0K", "2.0K/0B", "-", "0", "1h",
    ]  # fmt: skip
    calm = [replace(row, restarts=0) for row in rows]
    without_restarts = [line.text for line in top_text.screen(second(), calm, Sight(80, 24))]
    assert without_restarts[4].split()[:3] == ["TASK", "FAMILY", "CONTAINER"]
    assert without_restarts[5].split()[:3] == ["aa11bb22", "shop", "db"]
    wide = [replace(row, memory_bytes=999 << 20, memory_limit_bytes=999 << 20) for row in rows]
    assert "999M/999M" in top_text.screen(second(), wide, Sight(80, 24))[5].text


def test_what_does_not_fit_is_counted() -> None:
    round_ = second()
    many = [replace(round_.containers[0], container=f"c{n}") for n in range(40)]
    lines = top_text.screen(round_, many, Sight(80, 10))
    shown = sum(bool(re.search(r" c\d", line.text)) for line in lines)
    assert lines[-1].text.startswith(f"and {40 - shown} more containers")


def test_nothing_to_show_is_said() -> None:
    round_ = second()
    assert top_text.screen(round_, [], Sight(80, 24, words="x"))[-1].text == (
        "none of 3 containers matches 'x'"
    )
    empty = replace(round_, containers=[])
    assert top_text.screen(empty, [], Sight(80, 24))[-1].text == "no container runs"


def test_names_cannot_drive_the_terminal() -> None:
    row = replace(second().containers[0], container="\x1b[31mred")
    text = "\n".join(line.text for line in top_text.screen(second(), [row], Sight(120, 0)))
    assert "\x1b" not in text
    assert r"\x1b[31mred" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (10 << 10, "10K"), (1023 << 10, "1.0M"),
     (3 << 50, "3.0P"), (5000 << 50, "5000P")],
)  # fmt: skip
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (3599, "59m"), (7300, "2h"), (2e5, "2d")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--interval", "0.2"], "between 1 and 3600 seconds; use, for example, 5"),
        (["--interval", "nan"], "between 1 and 3600 seconds"),
        (["--sort", "cpus"], "'cpus' is not one of"),
        (["--sorted"], "No such option"),
    ],
)
def test_wrong_values_are_refused_with_the_right_ones(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", *words]) == 2
    assert told in capsys.readouterr().err


def test_every_key_has_a_figure() -> None:
    assert set(SORT_KEYS) == {"cpu", "memory", "network", "io", "pids", "restarts", "uptime"}


def test_json_has_every_field() -> None:
    shown = json.loads(msgspec.json.encode(second()))
    assert shown["tasksPending"] == 1
    assert shown["containers"][0]["memoryLimitBytes"] == 1 << 30
    assert shown["containers"][2]["cpuPercent"] is None
    assert shown["host"]["gpus"][0]["name"] == "Tesla T4"
