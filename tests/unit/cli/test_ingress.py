"""``ecs-agent ingress``: what is said where it cannot begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli import app
from agent.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_missing_haproxy_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("agent.cli.ingress._SEARCHED", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert app.main(["ingress"]) == ExitCode.TERMINAL
    assert "install the package haproxy" in capsys.readouterr().err
    assert app.main(["ingress", "--haproxy", str(tmp_path)]) == ExitCode.TERMINAL
    assert "is not a program" in capsys.readouterr().err


def test_without_a_control_it_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program, config = tmp_path / "haproxy", tmp_path / "ecs.config"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    config.write_text("")
    monkeypatch.setattr("agent.cli.env.DATA_DIRS", (tmp_path,))
    monkeypatch.delenv("ECS_CONTROL_ENDPOINT", raising=False)
    asked = ["ingress", "--haproxy", str(program), "--config", str(config)]
    assert app.main(asked) == ExitCode.TERMINAL
    assert "give --control URL" in capsys.readouterr().err


def test_a_run_dir_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program, config = tmp_path / "haproxy", tmp_path / "ecs.config"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    config.write_text("")
    (tmp_path / "health.sock").mkdir()
    asked = ["ingress", "--haproxy", str(program), "--config", str(config)]
    asked += ["--control", "http://127.0.0.1:9", "--run-dir", str(tmp_path)]
    assert app.main(asked) == ExitCode.TERMINAL
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "--run-dir" in each]
    assert line.endswith("choose another directory")
