"""That every command prints by ``output``, and what that does to what others say."""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent import escapes
from agent.cli import client, doctor, main, output
from agent.doctor.findings import Finding, Level, Report
from agent.model.resources import Wait
from tests.support.terminal import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.runtime.protocol import LogSelection
    from tests.unit.cli.conftest import Source

CLI = Path(output.__file__).parent
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f\r\nTASK forged"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f"


def _printing(path: Path) -> list[str]:
    """Return the calls of a module that print past ``output``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"print", "click.echo", "click.secho", "click.prompt", "click.confirm"} or (
                name.startswith(("sys.stdout.", "sys.stderr.")) and name.endswith("write")
            ):
                found.append(f"{path.name}:{node.lineno} {name}")
    return found


def test_no_command_prints_in_another_way() -> None:
    found = [
        call for path in CLI.glob("*.py") if path.name != "output.py" for call in _printing(path)
    ]
    # Neither loads click: ``run`` is the agent's own process. They escape by themselves.
    assert sorted(call.partition(":")[0] for call in found) == ["healthcheck.py", "run.py"]


def hostile(source: Source) -> None:
    """Have the agent say the worst in every field that is a text."""
    running, waiting = source.tasks
    containers = [
        msgspec.structs.replace(c, name=EVIL, image=EVIL, reason=EVIL, engine_name=EVIL)
        for c in running.containers
    ]
    sample = running.sample
    assert sample is not None
    source.tasks = [
        msgspec.structs.replace(
            running,
            family=EVIL,
            revision=EVIL,
            ipv4=EVIL,
            network_mode=EVIL,
            desired="STOPPED",
            reason=EVIL,
            stop_code=EVIL,
            containers=containers,
            sample=msgspec.structs.replace(
                sample, containers=[msgspec.structs.replace(sample.containers[0], name=EVIL)]
            ),
        ),
        msgspec.structs.replace(
            waiting, family=EVIL, waits=[Wait(what=EVIL, since=1.0, container=EVIL)]
        ),
    ]
    source.agent = msgspec.structs.replace(
        source.agent,
        version=EVIL,
        cluster=EVIL,
        instance_arn=EVIL,
        instance_status=EVIL,
        control_endpoint=EVIL,
        control_error=EVIL,
        engine_version=EVIL,
        degraded=[EVIL],
    )


COMMANDS = [
    ("tasks",),
    ("task", "aa11"),
    ("task", "aa22"),
    ("why", "aa11"),
    ("why", "aa22"),
    ("status",),
    ("stop", "aa11"),
    ("version",),
    ("task", EVIL),
    ("logs", "aa22", "-c", EVIL),
    (EVIL,),
    ("tasks", f"--{EVIL}"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0][:8].strip("\x1b"))
async def test_a_terminal_is_sent_text_alone(
    agent_socket: str, source: Source, words: tuple[str, ...]
) -> None:
    hostile(source)
    done = await asyncio.to_thread(shown, 132, *words, "--socket", agent_socket)
    text = "\n".join(done.lines)
    assert r"\x1b" in text
    assert escapes.is_plain(text.replace("\n", ""))
    assert not any(line.startswith("TASK forged") for line in done.lines)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0][:8].strip("\x1b"))
async def test_a_pipe_is_sent_text_alone(
    agent_socket: str,
    source: Source,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    hostile(source)
    await asyncio.to_thread(main, [*words, "--socket", agent_socket])
    told = "".join(capsys.readouterr())
    assert escapes.is_plain(told.replace("\n", ""))
    assert not any(line.startswith("TASK forged") for line in told.splitlines())


@pytest.mark.parametrize("words", [("tasks",), ("task", "aa11"), ("why", "aa22"), ("status",)])
async def test_json_has_the_values_and_no_control_character(
    agent_socket: str,
    source: Source,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    hostile(source)
    await asyncio.to_thread(main, [*words, "--json", "--socket", agent_socket])
    told = capsys.readouterr().out
    assert escapes.is_plain(told.replace("\n", ""))
    assert EVIL in _texts(json.loads(told))


def _texts(value: object) -> set[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {text for item in value for text in _texts(item)}
    return {value} if isinstance(value, str) else set()


class _Logs:
    """What a container wrote."""

    chunks = (b"\x1b[3", b"1mred\x1b[2J\x1b]0;own", b"ed\x07\x9b\n", b"\xc2", b"\x9b2Jend\r")

    @classmethod
    async def read(cls, _: str, selection: LogSelection) -> AsyncIterator[bytes]:
        text = b"".join(cls.chunks)
        lines = [b"2026-01-02T03:04:05Z " + line for line in text.split(b"\n")]
        for chunk in (b"\n".join(lines),) if selection.timestamps else cls.chunks:
            yield chunk


async def test_logs_on_a_terminal_are_text_and_colours(
    agent_socket: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "container_logs", _Logs.read)
    done = await asyncio.to_thread(shown, 80, "logs", "aa11", "--socket", agent_socket)
    assert done.raw == (
        "\x1b[31mred" + r"\x1b[2J\x1b]0;owned\x07\x9b" + "\n" + r"\x9b2Jend\r" + "\x1b[0m"
    )


async def test_logs_in_a_pipe_are_the_bytes_themselves(
    agent_socket: str,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(source, "container_logs", _Logs.read)
    code = await asyncio.to_thread(main, ["logs", "aa11", "--socket", agent_socket])
    assert code == 0
    assert capfdbinary.readouterr().out == b"".join(_Logs.chunks)


async def test_lines_of_logs_as_json_hold_no_control_character(
    agent_socket: str,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(source, "container_logs", _Logs.read)
    await asyncio.to_thread(main, ["logs", "aa11", "--json", "--socket", agent_socket])
    first, second = capsys.readouterr().out.splitlines()
    assert escapes.is_plain(first + second)
    assert json.loads(second)["line"] == "\x9b2Jend"


def test_an_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise client.CliError(f"the engine said: {EVIL}")

    monkeypatch.setattr(client.AgentClient, "agent", fail)
    assert main(["status", "--socket", "/nowhere"]) == 1
    assert (
        capsys.readouterr().err
        == f"ecs-agent: the engine said: {SHOWN}" + r"\r\nTASK forged" + "\n"
    )


def test_a_style_colours_and_lets_nothing_else_through() -> None:
    red = output.styled("a\x1b[2Jb", fg="red")
    assert red == "\x1b[31ma" + r"\x1b[2J" + "b\x1b[0m"
    assert output.joined([red, "\x1b"], " ") == f"{red} " + r"\x1b"


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
def test_what_doctor_found_is_shown_as_text(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: is_terminal)
    found = Finding(check=EVIL, level=Level.ERROR, seen=EVIL, mend=EVIL, command=EVIL)
    report = Report(
        hostname=EVIL, version="1", at=0.0, errors=1, warnings=0, findings=[found], left_out=[EVIL]
    )
    doctor._show(report)
    told = capsys.readouterr().out
    assert told.count(r"\x1b]0;owned\x07") == 5
    assert escapes.is_plain(told.replace("\n", ""))
    assert not any(line.startswith("TASK forged") for line in told.splitlines())
