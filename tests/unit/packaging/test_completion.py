"""A real bash completes commands, options and tasks by the script that the package installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agent.cli import app, completion, run
from agent.cli.client import AgentClient, AgentNotRunning
from agent.cli.run_command import run_command
from agent.model.views import TaskView
from packager import completion as scripts

COMMANDS = Path(sys.executable).parent


def in_bash(*words: str) -> list[str]:
    """Return what bash would offer for the last of the words."""
    program = """
        source /dev/stdin
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        complete -p ecs-agent >/dev/null || exit 1
        _ecs_agent_completion ecs-agent "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    answer = subprocess.run(
        ["bash", "--norc", "-c", program, "bash", *words],
        input=scripts.script("bash"),
        env={"PATH": f"{COMMANDS}:/usr/bin:/bin", "ECS_AGENT_SOCKET": "/nonexistent/socket"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stderr == ""
    return answer.stdout.split()


def test_bash_completes_a_command() -> None:
    assert in_bash("ecs-agent", "st") == ["standalone", "status", "stop"]


def test_bash_completes_options_of_run_which_click_never_runs() -> None:
    assert in_bash("ecs-agent", "run", "--") == ["--config", "--help"]


@pytest.mark.parametrize("words", [("logs", ""), ("task", "12"), ("logs", "12", "--container", "")])
def test_bash_says_nothing_where_there_is_nothing_to_offer(words: tuple[str, ...]) -> None:
    assert in_bash("ecs-agent", *words) == []


def test_bash_shows_no_error_after_a_mistyped_command() -> None:
    assert "--help" in in_bash("ecs-agent", "nonsense", "--")


@pytest.mark.parametrize("shell", sorted(scripts.PLACES))
def test_shells_can_read_their_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(scripts.script(shell))
    subprocess.run([shell, "-n", str(path)], check=True)


class _Agent(AgentClient):
    def __init__(self, *tasks: TaskView) -> None:
        super().__init__("/nowhere")
        self._tasks = tasks

    def tasks(self) -> list[TaskView]:
        if not self._tasks:
            raise AgentNotRunning("nobody is there")
        return list(self._tasks)


def _offered(agent: AgentClient, incomplete: str) -> list[str]:
    context = click.Context(app.group)
    context.params["client"] = agent
    items = completion.task_ids(context, click.Argument(["task_id"]), incomplete)
    return [item.value for item in items]


def _task(id_: str, accepted_at: float) -> TaskView:
    return TaskView(
        arn=f"arn:aws:ecs:us-east-1:0:task/default/{id_}",
        id=id_,
        family="web",
        revision="1",
        status="RUNNING",
        desired="RUNNING",
        network_mode="awsvpc",
        accepted_at=accepted_at,
    )


def test_tasks_that_begin_so_are_offered_the_newest_first() -> None:
    agent = _Agent(_task("abc1", 1), _task("abc2", 2), _task("def", 3))
    assert _offered(agent, "abc") == ["abc2", "abc1"]
    assert _offered(agent, "") == ["def", "abc2", "abc1"]


def test_without_an_agent_nothing_is_offered() -> None:
    assert _offered(_Agent(), "") == []


def test_names_are_offered_once_something_is_typed() -> None:
    agent = _Agent(_task("abc1", 1), _task("abc2", 2))
    assert _offered(agent, "w") == ["web"]


def test_run_takes_the_options_that_its_help_has() -> None:
    for param in run_command.params:
        for name in param.opts:
            assert run._parse([name, "a value"]) == "a value"
