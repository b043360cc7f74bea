"""The commands on real terminals: narrow and wide ones, ordinary and very long names."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.model.task import NetworkBinding
from agent.model.views import ContainerView
from tests.support.terminal import Shown, shown

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Source

WIDTHS = (60, 80, 132)
ID = "3f2a9c01d2e34b5c8d9e0f1a2b3c4d5e"
REGISTRY = "registry.example.com:5000/team/platform/"


def many_tasks(source: Source) -> None:
    """Ordinary names, very long ones, and reasons of any length."""
    running, waiting = source.tasks
    web = msgspec.structs.replace(
        running,
        id=ID,
        family="storefront-web",
        revision="127",
        accepted_at=time.time() - 11100,
        containers=[
            msgspec.structs.replace(
                running.containers[0], name=name, image=f"{REGISTRY}{name}:1.2.3"
            )
            for name in ("nginx", "storefront", "log-router")
        ],
    )
    long = ContainerView(
        name="n" * 255,
        image=f"{REGISTRY}{'i' * 200}@sha256:{'0' * 64}",
        status="RUNNING",
        desired="RUNNING",
        reason="CannotPullContainerError: " + "pull access denied " * 40,
        bindings=[NetworkBinding(container_port=80 + n, host_port=8080 + n) for n in range(100)],
    )
    huge = msgspec.structs.replace(
        web,
        id="f" * 32,
        family="f" * 255,
        ipv4="255.255.255.255",
        accepted_at=time.time() - 99 * 86400,
        containers=[long] * 10,
        reason="because " * 120,
        stop_code="EssentialContainerExited",
        desired="STOPPED",
        sample=msgspec.structs.replace(
            running.sample,
            containers=[msgspec.structs.replace(running.sample.containers[0], name="n" * 255)],
        )
        if running.sample
        else None,
    )
    source.tasks = [web, huge, msgspec.structs.replace(waiting, id="b" * 32)]
    source.agent = msgspec.structs.replace(
        source.agent,
        cluster="c" * 255,
        control_error="no route to host " * 20,
        degraded=["the bridge is gone and " * 20],
    )


async def on(columns: int, socket: str, *words: str) -> Shown:
    return await asyncio.to_thread(shown, columns, *words, "--socket", socket)


@pytest.mark.parametrize("columns", [60, 80])
async def test_a_task_is_one_row(agent_socket: str, source: Source, columns: int) -> None:
    many_tasks(source)
    lines = (await on(columns, agent_socket, "tasks")).lines
    assert max(map(len, lines)) <= columns
    rows = [line for line in lines if not line.startswith(" ")]
    assert len(rows) == 1 + 3
    assert [row.split()[0] for row in rows[1:]] == ["b" * 12, ID[:12], "f" * 12]
    # The reason of one is below it, two lines at most.
    below = [line for line in lines if line.startswith("  ")]
    assert len(below) == 1 + 2
    assert below[-1].endswith("…")


async def test_eighty_columns_hold_ordinary_names(agent_socket: str, source: Source) -> None:
    many_tasks(source)
    source.tasks = source.tasks[:1]
    head, row = (await on(80, agent_socket, "tasks")).lines
    assert head.split() == ["TASK", "DEFINITION", "STATUS", "ADDRESS", "CONTAINERS", "AGE"]
    assert "storefront-web:127" in row
    head, row = (await on(60, agent_socket, "tasks")).lines
    assert head.split() == ["TASK", "DEFINITION", "STATUS", "ADDRESS", "AGE"]
    assert "storefro…web:127" in row


async def test_a_wide_terminal_shows_all(agent_socket: str, source: Source) -> None:
    many_tasks(source)
    source.tasks = source.tasks[:1]
    head, row = (await on(160, agent_socket, "tasks")).lines
    assert head.split() == [
        *("TASK", "DEFINITION", "STATUS", "DESIRED", "ADDRESS", "CONTAINERS", "AGE"),
    ]
    assert ID in row
    assert "nginx storefront log-router" in row


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("tasks",),
        ("task", "f" * 8),
        ("why", "f" * 8),
        ("why", "b" * 8),
        ("task", ID[:8]),
        ("stop", ID[:8]),
        ("version",),
    ],
)
async def test_no_line_is_longer_than_the_terminal(
    agent_socket: str, source: Source, columns: int, words: tuple[str, ...]
) -> None:
    """But for words that would be useless in pieces: ARNs and names in a sentence."""
    many_tasks(source)
    done = await on(columns, agent_socket, *words)
    assert done.code == 0
    for line in done.lines:
        long_words = [word for word in line.split() if len(word) > 20]
        assert len(line) <= columns or long_words, line


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize(
    "command",
    [
        *("", "standalone", "run", "control", "join", "doctor", "status", "tasks", "task", "why"),
        *("logs", "stop", "version", "help"),
    ],
)
def test_help_fits(columns: int, command: str) -> None:
    done = shown(columns, *([command] if command else []), "--help")
    assert done.code == 0
    assert max(map(len, done.lines)) <= columns


async def test_colours_stay_out_of_dumb_terminals(agent_socket: str) -> None:
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        done = await asyncio.to_thread(
            shown, 80, "tasks", "--socket", agent_socket, environ=environ
        )
        assert "\x1b" not in done.raw
    assert "\x1b[32m" in (await on(80, agent_socket, "tasks")).raw


async def test_nothing_that_others_say_takes_over_the_terminal(
    agent_socket: str, source: Source
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    running = source.tasks[0]
    source.tasks = [
        msgspec.structs.replace(
            running,
            reason=evil,
            desired="STOPPED",
            containers=[msgspec.structs.replace(running.containers[0], reason=evil, image=evil)],
        )
    ]
    source.agent = msgspec.structs.replace(source.agent, control_error=evil, degraded=[evil])
    for words in (("tasks",), ("task", "aa11"), ("why", "aa11"), ("status",)):
        raw = (await on(80, agent_socket, *words)).raw
        assert "\x1b]" not in raw
        assert "\x1b[2J" not in raw
        assert "\x07" not in raw


async def test_a_terminal_without_unicode_is_no_error(agent_socket: str, source: Source) -> None:
    many_tasks(source)
    done = await asyncio.to_thread(
        shown,
        60,
        *("tasks", "--socket", agent_socket),
        environ={"PYTHONIOENCODING": "latin-1"},
    )
    assert done.code == 0
    assert "f?f" in done.raw
