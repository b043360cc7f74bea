from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.cli import client, inspect, main, render, status_text, task_text
from agent.cli.client import AgentClient, CliError
from agent.model.resources import Wait
from agent.model.views import ContainerView, DrainView, RepairView
from tests.support.terminal import COMMAND, Dialogue

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Source


class Terminal:
    """Runs commands against the socket and keeps what they printed."""

    def __init__(self, path: str, capture: pytest.CaptureFixture[str]) -> None:
        self._path = path
        self._capture = capture

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, [*arguments, "--socket", self._path])
        out, err = self._capture.readouterr()
        return code, out, err


@pytest.fixture
def ecs_agent(agent_socket: str, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(agent_socket, capsys)


async def test_status_tells_what_works_and_what_does_not(ecs_agent: Terminal) -> None:
    code, out, _ = await ecs_agent("status")
    assert code == 0
    assert "not connected for 1 m 3" in out
    assert "connection refused; next try in 1 m 1" in out
    assert " s, 3 changes to send: connection refused" in out
    assert "20.10.24 connected" in out
    assert "512 of 2048 MiB reserved" in out
    assert "! control is away: connection refused" in out
    assert "\x1b" not in out


async def test_status_tells_of_repairs_of_the_last_hour(
    ecs_agent: Terminal, source: Source
) -> None:
    ages_s = (4000, 900, 500, 130, 70)
    repairs = [RepairView(at=time.time() - s, found=f"link {s} was down") for s in ages_s]
    source.agent = msgspec.structs.replace(source.agent, repairs=repairs)
    _, out, _ = await ecs_agent("status")
    told = [line.strip() for line in out.splitlines() if "link" in line or "more" in line]
    assert [line.partition("ago: ")[2] for line in told[:3]] == [
        "link 70 was down", "link 130 was down", "link 500 was down",
    ]  # fmt: skip
    assert told[0].startswith("repaired 1 m 1")
    assert told[3:] == ["and 1 more repairs in the last hour; see the log"]


async def test_json_is_the_view_itself(ecs_agent: Terminal) -> None:
    _, out, _ = await ecs_agent("status", "--json")
    assert json.loads(out)["unsentChanges"] == 3
    _, out, _ = await ecs_agent("tasks", "--json")
    assert [task["id"] for task in json.loads(out)] == ["aa22", "aa11"]
    _, out, _ = await ecs_agent("task", "aa1", "--json")
    assert json.loads(out)["ipv4"] == "10.207.0.2"


async def test_tasks_are_plain_columns_in_a_pipe(ecs_agent: Terminal) -> None:
    code, out, _ = await ecs_agent("tasks")
    assert code == 0
    head, first, second = out.splitlines()
    assert head.split()[:3] == ["TASK", "DEFINITION", "STATUS"]
    assert first.startswith("aa22  batch:1     PENDING")
    assert first.endswith("2048 MiB of memory; 1536 of 2048 MiB are free")
    assert "10.207.0.2" in second


async def test_no_tasks(
    ecs_agent: Terminal, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.tasks = []
    # A script that leaves out the first line is left with nothing.
    _, out, _ = await ecs_agent("tasks")
    assert out.split() == [column.header for column in task_text.TASKS]
    monkeypatch.setattr(render, "on_terminal", lambda: True)
    assert (await ecs_agent("tasks"))[1] == "no tasks\n"


async def test_the_newest_come_first_also_within_one_moment(
    ecs_agent: Terminal, source: Source
) -> None:
    task = msgspec.structs.replace(source.tasks[0], accepted_at=1000.0)
    ids = ["c3", "a1", "b2"]  # as the agent gives them: the oldest first
    source.tasks = [msgspec.structs.replace(task, id=name) for name in ids]
    source.tasks.append(msgspec.structs.replace(task, id="d4", accepted_at=999.0))
    _, out, _ = await ecs_agent("tasks")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["b2", "a1", "c3", "d4"]
    _, out, _ = await ecs_agent("tasks", "--json")
    assert [view["id"] for view in json.loads(out)] == ["b2", "a1", "c3", "d4"]


async def test_a_pipe_gets_all_of_it_in_cells_that_can_be_told_apart(
    ecs_agent: Terminal, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    container = msgspec.structs.replace(source.tasks[0].containers[0], name="n" * 255)
    source.tasks = [
        msgspec.structs.replace(
            source.tasks[0],
            id="f" * 32,
            family="f" * 255,
            containers=[container] * 3,
            reason="two  blanks,\na line and an \x1b[31mescape",
        )
    ]
    _, out, _ = await ecs_agent("tasks")
    head, line = out.splitlines()
    cells = re.split("  +", line)
    assert len(cells) == len(head.split()) == len(task_text.TASKS)
    assert cells[0] == "f" * 32
    assert cells[1] == "f" * 255 + ":3"
    assert cells[5] == " ".join(["n" * 255] * 3)
    assert cells[7] == r"two blanks, a line and an \x1b[31mescape"


async def test_a_task_is_shown_with_containers_and_figures(ecs_agent: Terminal) -> None:
    _, out, _ = await ecs_agent("task", "arn:aws:ecs:local:0:task/prod/aa11")
    assert "8080->80/tcp" in out
    assert "1.2 %" in out
    assert "3.0 MiB" in out
    assert "network: 2.0 KiB received, 100 B sent (10 B/s and 0 B/s now)" in out


async def test_why_lists_every_wait_in_order(ecs_agent: Terminal) -> None:
    _, out, _ = await ecs_agent("why", "aa2")
    lines = out.splitlines()
    assert lines[0] == "aa22 (batch:1) is PENDING, should be RUNNING"
    assert lines[1] == "waiting for:"
    assert lines[2].strip() == "1. 2048 MiB of memory; 1536 of 2048 MiB are free"
    assert lines[3].endswith("continues when that changes")
    assert lines[4].strip() == "2. container job: the pull of job:1"
    assert "next try in 9 m" in lines[5] or "next try in 10 m" in lines[5]


async def test_why_says_when_there_is_nothing_to_wait_for(ecs_agent: Terminal) -> None:
    _, out, _ = await ecs_agent("why", "aa11")
    assert out == "aa11 (web:3) is RUNNING\nnot waiting for anything\n"
    _, out, _ = await ecs_agent("why", "aa11", "--json")
    assert json.loads(out)["waits"] == []


async def test_why_tells_the_end_of_a_task_from_its_containers(
    ecs_agent: Terminal, source: Source
) -> None:
    never = ContainerView(
        name="app",
        image="app:1",
        status="STOPPED",
        desired="STOPPED",
        reason="TaskStoppedBeforePullBeginError: Task stopped before image pull could begin",
    )
    ended = msgspec.structs.replace(never, name="db", reason="", exit_code=3, finished_at=9.0)
    task = msgspec.structs.replace(
        source.tasks[1],
        status="STOPPED",
        desired="STOPPED",
        waits=[],
        containers=[never, ended],
    )
    source.tasks = [task]
    _, out, _ = await ecs_agent("why", "aa2")
    lines = out.splitlines()
    assert lines == ["aa22 (batch:1) has stopped: essential container db exited with code 3"]
    clean_up = Wait(
        what="its containers and their logs are kept until the clean-up",
        since=time.time() - 60,
        next_try=time.time() + 7200.4,
    )
    source.tasks = [msgspec.structs.replace(task, stopped_at=time.time() - 60, waits=[clean_up])]
    _, out, _ = await ecs_agent("why", "aa2")
    cause, stopped, kept = out.splitlines()
    assert cause == lines[0]
    assert stopped.startswith("stopped 2")
    assert stopped.endswith("(1 m ago)")
    assert kept == "its containers and their logs are kept until the clean-up; due in 2 h"
    _, out, _ = await ecs_agent("task", "aa2")
    assert "waiting for" not in out
    _, out, _ = await ecs_agent("tasks")
    assert "clean-up" not in out
    pull = msgspec.structs.replace(ended, exit_code=None, reason="CannotPullContainerError: no")
    source.tasks = [msgspec.structs.replace(task, containers=[never, pull], waits=[])]
    _, out, _ = await ecs_agent("why", "aa2")
    reason = "container db: CannotPullContainerError: no"
    assert out == f"aa22 (batch:1) has stopped: {reason}\n"
    source.tasks = [msgspec.structs.replace(task, reason="night", stop_code="UserInitiated")]
    _, out, _ = await ecs_agent("tasks")
    assert out.endswith("night (UserInitiated)\n")


async def test_no_task_at_all_is_a_bad_command_line(ecs_agent: Terminal) -> None:
    code, out, err = await ecs_agent("task", "")
    assert (code, out) == (2, "")
    assert err == (
        "ecs-agent: TASK is empty; give a task id or its beginning, a family, or a container name\n"
    )


async def test_on_a_terminal_reasons_go_below_their_rows(
    ecs_agent: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = await ecs_agent("tasks")
    head, first, reason, *_ = out.splitlines()
    assert head.split()[-1] == "AGE"
    assert first.startswith("aa22  batch:1")
    assert reason == "  2048 MiB of memory; 1536 of 2048 MiB are free"
    assert "\x1b" not in out


async def test_unknown_and_ambiguous_tasks_are_one_line(ecs_agent: Terminal) -> None:
    code, out, err = await ecs_agent("task", "zz")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "no task 'zz' on this host; there are aa22 (batch:1, PENDING), aa11 (web:3, " in err
    code, _, err = await ecs_agent("task", "aa")
    assert code == 1
    assert "'aa' matches several tasks: aa22 (batch:1, PENDING), aa11 (web:3, RUNNING)" in err


async def test_a_task_goes_by_its_family_or_a_container(
    ecs_agent: Terminal, source: Source
) -> None:
    assert (await ecs_agent("why", "web"))[1].startswith("aa11 (web:3) is RUNNING")
    assert (await ecs_agent("why", "log"))[1].startswith("aa22 (batch:1) is PENDING")
    assert "tail=None" in (await ecs_agent("logs", "web"))[1]
    code, _, err = await ecs_agent("logs", "log")
    assert (code, "container 'log' of task aa22 has not been created" in err) == (1, True)
    code, out, _ = await ecs_agent("stop", "web:3")
    assert out.startswith("stopping aa11 (web:3)")
    assert [arn for arn, _ in source.stopped] == [source.tasks[0].arn]
    _, _, err = await ecs_agent("task", "bacth")
    assert "did you mean 'batch'? There are " in err


async def test_the_arn_of_another_region_is_another_task(
    ecs_agent: Terminal, source: Source
) -> None:
    code, _, err = await ecs_agent("stop", source.tasks[0].arn.replace("local", "eu-west-1"))
    assert (code, source.stopped) == (1, [])
    assert "no task 'arn:aws:ecs:eu-west-1:" in err


async def test_a_stopped_task_is_not_said_to_stop(ecs_agent: Terminal, source: Source) -> None:
    ended = msgspec.structs.replace(
        source.tasks[0], status="STOPPED", desired="STOPPED", reason="night"
    )
    source.tasks = [ended]
    assert (await ecs_agent("stop", "web"))[1] == (
        "nothing to do: aa11 (web:3) has stopped: night\n"
    )


async def test_stop_orders_by_the_whole_id(ecs_agent: Terminal, source: Source) -> None:
    code, out, _ = await ecs_agent("stop", "aa1", "--reason", "night")
    assert code == 0
    assert out.startswith("stopping aa11")
    assert source.stopped == [("arn:aws:ecs:local:0:task/prod/aa11", "night")]


async def test_stops_every_task_only_with_consent(ecs_agent: Terminal, source: Source) -> None:
    ended = msgspec.structs.replace(source.tasks[0], id="cc33", arn="arn:3", status="STOPPED")
    source.tasks.append(ended)
    code, _, err = await ecs_agent("stop", "--all")
    assert (code, source.stopped) == (2, [])
    assert "this would stop 2 tasks; add --yes to stop them" in err
    code, out, _ = await ecs_agent("stop", "--all", "--yes", "--reason", "reboot")
    assert (code, out) == (0, "stopping 2 tasks; see 'ecs-agent tasks'\n")
    assert source.stopped == [(task.arn, "reboot") for task in source.tasks[:2]]
    source.tasks = [ended]
    assert (await ecs_agent("stop", "--all"))[:2] == (0, "no tasks to stop\n")
    for words in (["stop"], ["stop", "aa11", "--all"]):
        code, _, err = await ecs_agent(*words)
        assert (code, "give either TASK or --all" in err) == (2, True)


@pytest.mark.parametrize(("answer", "code", "count"), [("y\r", 0, 2), ("n\r", 1, 0), ("\r", 1, 0)])
async def test_asks_on_a_terminal_before_it_stops_every_task(
    agent_socket: str, source: Source, answer: str, code: int, count: int
) -> None:
    def typed() -> int:
        with Dialogue("stop", "--all", "--socket", agent_socket) as shown:
            shown.wait_for("stop 2 tasks on this host? [y/N]")
            shown.type(answer)
            return shown.code()

    assert await asyncio.to_thread(typed) == code
    assert len(source.stopped) == count


async def test_drains_and_takes_tasks_again(ecs_agent: Terminal, source: Source) -> None:
    view = source.agent
    source.agent = msgspec.structs.replace(view, drain=DrainView(wanted=True, since=time.time()))
    code, out, _ = await ecs_agent("drain")
    assert (code, out) == (0, "draining for 0 s, 2 tasks left\n")
    before = time.time()
    await ecs_agent("drain", "--deadline", "30m")
    await ecs_agent("drain", "--stop-tasks")
    (_, never), (wanted, later), (_, now) = source.drains
    assert (never, wanted) == (0.0, True)
    assert before + 1800 <= later <= time.time() + 1800
    assert before <= now <= time.time()
    source.agent = msgspec.structs.replace(view, running=0, pending=0, drain=DrainView(wanted=True))
    assert (await ecs_agent("drain", "--wait"))[0] == 0
    source.agent = view
    assert (await ecs_agent("undrain"))[1] == "taking tasks again\n"
    assert source.drains[-1] == (False, 0.0)
    for words in (["--deadline", "soon"], ["--deadline", "1m", "--stop-tasks"]):
        assert (await ecs_agent("drain", *words))[0] == 2


async def test_waiting_for_a_drain_ends_with_it(ecs_agent: Terminal, source: Source) -> None:
    source.agent = msgspec.structs.replace(source.agent, drain=DrainView())
    code, out, _ = await ecs_agent("drain", "--wait")
    assert (code, out) == (1, "somebody has ended the drain\n")


def test_how_a_drain_stands() -> None:
    def stands(tasks: int = 0, **fields: Any) -> str:
        return status_text.drain_state(DrainView(**fields), tasks, 1000.0)

    assert stands() == ""
    assert stands(wanted=True, since=400.0) == "for 10 m, no task left"
    assert stands(1, wanted=True, since=995.0, deadline=1060.0) == (
        "for 5 s, 1 task left, to be stopped in 1 m"
    )
    assert stands(2, wanted=True, since=995.0, deadline=900.0, told=False) == (
        "for 5 s, 2 tasks left, being stopped; control is not told yet"
    )
    assert stands(since=995.0, told=False, trouble="it is away") == (
        "ended; control could not be told yet: it is away"
    )


async def test_logs_come_as_they_were_written(
    agent_socket: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments = ["logs", "aa11", "--tail", "5", "--socket", agent_socket]
    assert await asyncio.to_thread(main, arguments) == 0
    assert capfdbinary.readouterr().out == b"one\ntwo tail=5 follow=False\nrest"


async def test_logs_as_json_are_one_object_a_line(ecs_agent: Terminal) -> None:
    _, out, _ = await ecs_agent("logs", "aa11", "--json")
    lines = [json.loads(line)["line"] for line in out.splitlines()]
    assert lines == ["one", "two tail=None follow=False", "rest"]


async def test_logs_of_a_task_are_merged_by_time(ecs_agent: Terminal, source: Source) -> None:
    second = msgspec.structs.replace(source.tasks[0].containers[0], name="db", runtime_id="c2")
    source.tasks[0] = msgspec.structs.replace(
        source.tasks[0], containers=[*source.tasks[0].containers, second]
    )
    base = 1_767_323_045 * 10**9
    source.lines = {
        "c1": [(base + 1, "first"), (base + 30, "third")],
        "c2": [(base + 20, "second"), (base + 40, "fourth")],
    }
    code, out, err = await ecs_agent("logs", "aa11")
    assert (code, err) == (0, "")
    assert out == "httpd | first\ndb    | second\nhttpd | third\ndb    | fourth\n"
    _, out, _ = await ecs_agent("logs", "aa11", "-t", "--since", "1767323045.00000003")
    assert out.splitlines() == [
        "httpd | 2026-01-02T03:04:05.000000030Z third",
        "db    | 2026-01-02T03:04:05.000000040Z fourth",
    ]
    _, out, _ = await ecs_agent("logs", "aa11", "--json", "-c", "db", "-n", "5")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"container": "db", "time": "2026-01-02T03:04:05.000000020Z", "line": "second"},
        {"container": "db", "time": "2026-01-02T03:04:05.000000040Z", "line": "fourth"},
    ]
    assert source.selections[-1][1].tail == 5
    code, _, err = await ecs_agent("logs", "aa11", "-c", "no")
    assert (code, err) == (1, "ecs-agent: task aa11 has no container 'no'; it has httpd, db\n")


async def test_following_goes_on_through_a_restart_until_the_container_has_stopped(
    ecs_agent: Terminal, source: Source
) -> None:
    base = 1_767_323_045 * 10**9
    source.lines = {"c1": [(base + 1, "one")]}
    running = source.tasks[0]
    stopped = msgspec.structs.replace(
        running, containers=[msgspec.structs.replace(running.containers[0], status="STOPPED")]
    )
    following = asyncio.create_task(ecs_agent("logs", "aa11", "--follow", "-t"))
    async with asyncio.timeout(30):
        while len([s for _, s in source.selections if s.follow]) < 2:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
        source.lines["c1"].append((base + 2, "two"))
        while source.selections[-1][1].since_ns <= base + 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        source.tasks[0] = stopped
        code, out, _ = await following
    assert code == 0
    assert [line.partition(" ")[2] for line in out.splitlines()] == ["one", "two"]


async def test_a_log_that_cannot_be_read_is_one_line_beside_the_others(
    ecs_agent: Terminal, source: Source
) -> None:
    running = source.tasks[0]
    other = msgspec.structs.replace(running.containers[0], name="sent", runtime_id="broken")
    source.tasks[0] = msgspec.structs.replace(running, containers=[*running.containers, other])
    code, out, err = await ecs_agent("logs", "aa11")
    assert code == 0
    assert out.startswith("httpd | one\n")
    assert err == "ecs-agent: container sent: the log driver cannot be read\n"
    code, _, err = await ecs_agent("logs", "aa11", "-c", "sent")
    assert code == 1
    assert "the log driver cannot be read" in err


@pytest.mark.parametrize("text", ["yesterday", "10", "-5m", "1x", "2026-13-01"])
def test_a_beginning_that_is_no_time(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "x", f"--since={text}"]) == 2
    assert "is not a time; use, for example, 10m" in capsys.readouterr().err


async def test_version(ecs_agent: Terminal, source: Source) -> None:
    assert (await ecs_agent("version"))[1] == "ecs-agent 0.1.0\n"
    source.agent = type(source.agent)(version="9.9", cluster="prod")
    _, out, _ = await ecs_agent("version")
    assert "the running agent has version 9.9" in out


@pytest.mark.parametrize(
    "words", ["tasks", "status", "logs aa11", "tasks --json", "help", "run -h"]
)
async def test_an_output_that_is_full_or_closed_is_no_crash(agent_socket: str, words: str) -> None:
    where = "" if words in {"help", "run -h"} else f" --socket {agent_socket}"

    def to(redirection: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", f"{COMMAND} {words}{where} {redirection}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = await asyncio.to_thread(to, ">/dev/full")
    assert done.stderr == "ecs-agent: the output cannot be written: No space left on device\n"
    assert done.returncode == 1
    done = await asyncio.to_thread(to, ">&-")
    assert (done.returncode, done.stderr) == (0, "")
    done = await asyncio.to_thread(to, "| true")
    assert done.stderr == ""


def test_without_an_agent_every_command_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "none.sock")
    for command in (
        ["status"],
        ["tasks"],
        ["task", "a"],
        ["why", "a"],
        ["logs", "a"],
        ["stop", "a"],
    ):
        assert main([*command, "--socket", path]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert "systemctl start ecs-agent" in err
    assert main(["version", "--socket", path]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("file", "/file is not a socket; name the agent's socket with --socket"),
        (".", "/. is not a socket; name the agent's socket with --socket"),
        ("file/below", "the agent is not running (no process listens on "),
        ("x" * 120, "the socket path /"),
    ],
)
def test_a_socket_that_is_none(
    name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["status", "--socket", f"{tmp_path}/{name}"]) == 1
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_who_may_not_ask_the_agent_is_told_so_but_not_by_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_connection: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client._UnixConnection, "connect", refused)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    path = str(tmp_path / "a.sock")
    assert main(["version", "--socket", path]) == 0
    out, err = capsys.readouterr()
    assert (out.split()[0], err) == ("ecs-agent", "")
    assert main(["status", "--socket", path]) == 1
    assert capsys.readouterr().err == (
        f"ecs-agent: only root may talk to the agent on {path}; use sudo\n"
    )


def test_version_does_not_wait_for_an_agent_that_hangs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "VERSION_LIMIT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(1)
        assert main(["version", "--socket", str(tmp_path / "silent.sock")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ecs-agent ")
    assert "the agent did not answer within 0.05 s" in err


@pytest.mark.parametrize("lines", ["-1", "many", "1e3", "9" * 20])
def test_lines_are_a_number(lines: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "x", f"--tail={lines}"]) == 2
    err = capsys.readouterr().err
    assert f"'{lines}' is not a number of lines; use, for example, 100" in err
    assert main(["logs", "x", "--tail"]) == 2
    assert "Try 'ecs-agent logs --help'" in capsys.readouterr().err


def test_a_socket_that_nobody_serves_any_more_is_an_agent_that_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert main(["status", "--socket", str(path)]) == 1
    assert "the agent is not running" in capsys.readouterr().err


def _serve_once(path: Path, answer: bytes) -> threading.Thread:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "is not an ecs-agent"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "cannot read"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx", "the agent answered 500 Oops"),
    ],
)
def test_strange_answers_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, told: str
) -> None:
    thread = _serve_once(tmp_path / "odd.sock", answer)
    assert main(["status", "--socket", str(tmp_path / "odd.sock")]) == 1
    thread.join()
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1


def test_an_agent_that_does_not_answer_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(1)
        with pytest.raises(CliError, match=r"did not answer within 0\.05 s"):
            AgentClient(str(tmp_path / "silent.sock"), limit_s=0.05).agent()
