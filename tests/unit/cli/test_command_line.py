from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent import logs
from agent.cli import lean_imports, main
from agent.cli.control import without_those_of_agents
from agent.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for command in ("standalone", "run", "control", "join", "status", "why", "logs", "version"):
        assert f"  {command} " in out


@pytest.mark.parametrize(
    "command", ["standalone", "status", "tasks", "task", "why", "logs", "stop", "version"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: ecs-agent {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "near"),
    [("statsu", "status"), ("STATUS", "status"), ("lsit", "ls"), ("pss", "ps"), ("stpo", "stop")],
)
def test_a_mistyped_command_gets_a_suggestion(
    typed: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert err.splitlines()[0] == (
        f"ecs-agent: there is no command '{typed}'; did you mean '{near}'?"
    )


@pytest.mark.parametrize(
    "arguments",
    [["task"], ["status", "--jsn"], ["xyzzy"], ["logs", "a", "--tail", "-3"], ["tasks", "extra"]],
)
def test_bad_command_lines_exit_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "Try 'ecs-agent" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--conf", "x"], "run has no option --conf; did you mean --config?"),
        (["--confg=x"], "run has no option --confg; did you mean --config?"),
        (["-x"], "run has no option -x"),
        (["now"], "run takes no arguments; remove 'now'"),
        (["--config"], "--config needs a file name"),
        (["--config="], "--config needs a file name"),
    ],
)
def test_bad_command_lines_of_run(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines()[0] == f"ecs-agent: {told}"


@pytest.mark.parametrize("words", [["run", "--help"], ["run", "-h"], ["help", "run"]])
def test_run_has_help_without_reading_anything(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: ecs-agent run [OPTIONS]\n")
    assert "--config FILE" in out
    assert "5 failure that a restart cannot fix." in " ".join(out.split())


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    assert "Commands:\n  standalone " in capsys.readouterr().out
    for words in (["help", "tasks"], ["tasks", "--help"]):
        assert main(words) == 0
        assert "Usage: ecs-agent tasks [OPTIONS]" in capsys.readouterr().out
    assert main(["help", "taks"]) == ExitCode.USAGE
    assert "there is no command 'taks'; did you mean 'tasks'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ps", "ls"])
def test_tasks_has_other_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", name]) == 0
    assert f"Usage: ecs-agent {name} [OPTIONS]\n\n  List the tasks" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "standalone"])
def test_bad_settings_are_lines_and_exit_code_5(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lean_imports, "begin", lambda: None)  # it would last for the whole session
    config = tmp_path / "ecs.config"
    config.write_text("ECS_CLUSTR=x\nECS_LOGLEVEL=loud\n")
    assert main([command, "--config", str(config)]) == ExitCode.TERMINAL
    assert capsys.readouterr().err.splitlines() == [
        f"ecs-agent: {config}:1: ECS_CLUSTR is not a known setting; did you mean ECS_CLUSTER?",
        f"ecs-agent: {config}:2: ECS_LOGLEVEL: 'loud' is not one of crit, error, warn, info, debug",
    ]


def test_run_without_any_settings_says_what_to_set_and_asks_nobody() -> None:
    """In a process of its own: what asks instance metadata is not even loaded."""
    program = """
import sys
from agent.aws import ec2_host
ec2_host.is_ec2 = lambda: False
from agent import logs
from agent.cli import lean_imports, main
code = main(["run", "--config", "/dev/null"])
print(code, "agent.aws.imds" in sys.modules, "agent.daemon" in sys.modules)
"""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("ECS_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ, check=True
    )
    assert done.stdout == "5 False False\n"
    assert done.stderr.startswith("ecs-agent: no control is set: run 'ecs-agent join URL', or set ")
    assert done.stderr.count("\n") == 1


def test_a_settings_file_that_is_named_must_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none"
    assert main(["standalone", "--config", str(path)]) == ExitCode.TERMINAL
    assert capsys.readouterr().err == f"ecs-agent: {path}: there is no such file; check the path\n"


def test_the_version_is_an_option_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ecs-agent ")


def test_settings_of_an_agent_do_not_matter_to_control() -> None:
    environ = {"ECS_EXTERNAL": "true", "ECS_LOGLEVEL": "debug", "ECS_CLUSTR": "x", "PATH": "/bin"}
    kept = without_those_of_agents(environ)
    assert set(kept) == {"ECS_LOGLEVEL", "ECS_CLUSTR", "PATH"}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--listen", "127.0.0.1:99999"], 2, "--listen 127.0.0.1:99999: has the port 99999"),
        (["--agent-listen", "x"], 2, "--agent-listen x: is not HOST:PORT, because it has no port"),
        (
            ["--listen", "127.0.0.1:6899", "--agent-listen", "127.0.0.1:6899"],
            2,
            "--agent-listen 127.0.0.1:6899: is already used by --listen; choose another port",
        ),
        (["--region", "no region"], 2, "--region no region: is not a region; write for example"),
        (["--zone", "a b"], 2, "--zone a b: is not a valid name; use at most 128 letters"),
        (
            ["--open", "--keys-file", "k"],
            2,
            "--open and --keys-file contradict each other; give only one of them",
        ),
        (
            ["--open", "--token-file", "t"],
            2,
            "--open and --token-file contradict each other; give only one of them",
        ),
        (["--backup-every", "6"], 2, "--backup-every 6: "),
        (
            ["--backup-every", "6s"],
            2,
            "--backup-every 6s: is less than one minute; use a longer time",
        ),
        (["--store", "http://a:1/x"], 2, "--store: the store's address must be etcd://"),
        (
            ["--store", "etcd://me:pw@a:1/x"],
            2,
            "--store: a user in the store's address would be seen",
        ),
        (
            ["--store", "etcd://127.0.0.1:1/x"],
            1,
            "etcd does not answer: http://127.0.0.1:1 cannot be",
        ),
        (["--socket", "/" + "s" * 200], 2, "is longer than 107 bytes; use a shorter path"),
        (["--data-dir", "{file}"], 1, "--data-dir {file}: is not a directory; choose another path"),
        (["--data-dir", "/proc/x"], 1, "--data-dir /proc/x: No such file or directory; choose"),
        (["--tls-key", "{file}"], 5, "--tls-key is given without --tls-certificate"),
        (["--token-file", "/etc"], 5, "--token-file /etc: "),
    ],
)
def test_what_is_wrong_with_the_options_of_control_is_one_line(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "configure", lambda _settings: None)  # it would last for the session
    file = tmp_path / "file"
    file.touch()
    words = [word.format(file=file) for word in arguments]
    usual = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    assert main(["control", *usual, *words]) == code
    err = capsys.readouterr().err
    assert told.format(file=file) in err
    assert "Errno" not in err
    assert [line for line in err.splitlines() if line.startswith("ecs-agent: ")][1:] == []
