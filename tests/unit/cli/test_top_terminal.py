"""``ecs-agent top`` on a real terminal and in pipes, in front of a real operator socket."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.cli import top, top_text
from agent.model.metrics import HostSample, MetricsBatch
from agent.model.views import UsageView
from tests.support.terminal import COMMAND, Dialogue
from tests.unit.cli.test_top import AT, view

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Source

WRAPPING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Sampler:
    """Takes a round each time somebody asks for one."""

    def __init__(self, source: Source) -> None:
        self.latest: MetricsBatch | None = None
        self.loop_lag_s = self.round_s = 0.0
        self._source = source
        self._callbacks: list[Callable[[MetricsBatch], None]] = []
        self.rounds = 0
        self.poke()

    def subscribe(self, callback: Callable[[MetricsBatch], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def poke(self) -> None:
        self.rounds += 1
        at = AT + 2 * self.rounds
        self.latest = MetricsBatch(host=HostSample(at=at))
        self._source.usage = view(at, read=4000 * self.rounds, link=1000 * self.rounds)
        for callback in list(self._callbacks):
            callback(self.latest)


@pytest.fixture
def sampler(source: Source) -> Sampler:
    source.sampler = made = Sampler(source)
    return made


def lines_of(frame: str) -> list[str]:
    """Return the lines of frames; each frame begins at the top left."""
    return [WRAPPING.sub("", line) for line in re.split(r"\n|\x1b\[H", frame)]


@pytest.mark.usefixtures("sampler")
async def test_q_ends_it_and_nothing_wraps(agent_socket: str) -> None:
    def talk() -> None:
        with Dialogue("top", "--interval", "1", "--socket", agent_socket) as terminal:
            first = terminal.wait_for("q quit")
            assert "\x1b[?1049h" in first  # on a screen of its own
            assert max(map(len, lines_of(first))) <= 80
            assert "110" in first
            assert terminal.settings != terminal.before  # keys come at once and unseen
            terminal.type("m")
            terminal.wait_for("by memory")
            terminal.resize(12, 60)
            narrow_foot = top_text.fitted(top_text.keys("memory", top._KEYS), 60)[-12:]
            terminal.wait_for(narrow_foot)
            narrow = terminal.wait_for(narrow_foot)
            assert max(map(len, lines_of(narrow))) <= 60
            terminal.type("q")
            terminal.wait_for("\x1b[?1049l")
            assert terminal.code() == 0
            assert terminal.settings == terminal.before

    await asyncio.to_thread(talk)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("sampler")
async def test_signals_end_it_and_restore_the_terminal(
    agent_socket: str, number: signal.Signals
) -> None:
    def talk() -> None:
        with Dialogue("top", "--socket", agent_socket) as terminal:
            terminal.wait_for("q quit")
            terminal.process.send_signal(number)
            assert terminal.code() == 0
            assert terminal.settings == terminal.before

    await asyncio.to_thread(talk)


@pytest.mark.usefixtures("sampler")
async def test_an_agent_that_goes_away_is_said_and_waited_for(
    source: Source, agent_socket: str
) -> None:
    sampler, source.sampler = source.sampler, None

    def talk() -> None:
        with Dialogue("top", "--interval", "1", "--socket", agent_socket) as terminal:
            terminal.wait_for("ECS_DISABLE_METRICS")
            assert terminal.code() == 1  # it never had anything to show
        source.sampler = sampler
        with Dialogue("top", "--interval", "1", "--socket", agent_socket) as terminal:
            terminal.wait_for("q quit")
            source.sampler = None
            terminal.wait_for("ECS_DISABLE_METRICS")
            source.sampler = sampler
            terminal.type("q")
            assert terminal.code() == 0

    await asyncio.to_thread(talk)


def piped(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), "top", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.usefixtures("sampler")
async def test_a_pipe_gets_one_round_without_escapes(agent_socket: str) -> None:
    done = await asyncio.to_thread(piped, "--filter", "shop", "--socket", agent_socket)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    table = done.stdout.splitlines()
    head = next(at for at, line in enumerate(table) if line.startswith("TASK"))
    assert [line.split()[2] for line in table[head + 1 :]] == ["db", "web"]
    assert "2.0K/0B" in table[head + 1]  # two rounds were taken for the rates


@pytest.mark.usefixtures("sampler")
async def test_json_is_a_line_for_each_round(agent_socket: str) -> None:
    def talk() -> list[dict[str, object]]:
        process = subprocess.Popen(
            [str(COMMAND), "top", "--json", "--interval", "1", "--socket", agent_socket],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process:
            rounds = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        return rounds

    first, then = await asyncio.to_thread(talk)
    assert float(str(then["at"])) > float(str(first["at"]))
    once = await asyncio.to_thread(piped, "--once", "--json", "--socket", agent_socket)
    (line,) = once.stdout.splitlines()
    assert json.loads(line)["containers"][0]["readBytesPerS"] == 2000.0


async def test_before_the_first_round_it_waits(source: Source, agent_socket: str) -> None:
    source.sampler = Sampler(source)
    source.sampler.latest = None
    source.usage = UsageView(host_name="h1")
    done = await asyncio.to_thread(piped, "--once", "--json", "--socket", agent_socket)
    assert json.loads(done.stdout)["host"]["name"] == "h1"
