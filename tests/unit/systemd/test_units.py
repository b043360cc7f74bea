"""The units as systemd's own tools judge them, and against what the agent assumes of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.config import Settings
from agent.errors import ExitCode
from agent.listening.limits import WANTED_DESCRIPTORS

UNITS = Path(__file__).parents[3] / "systemd"
AGENT = UNITS / "ecs-agent.service"
CONTROL = UNITS / "ecs-agent-control.service"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd's tools; run scripts/setup"
)


def _analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def _values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize(("unit", "threshold"), [(AGENT, 44), (CONTROL, 13)])
def test_exposure(unit: Path, threshold: int) -> None:
    """Threshold in tenths of systemd's figure, 0 to 10."""
    _analyze("security", "--offline=true", f"--threshold={threshold}", str(unit))


@pytest.mark.parametrize("unit", [AGENT, CONTROL], ids=lambda unit: unit.stem)
def test_nothing_is_without_a_bound(unit: Path) -> None:
    assert _values(unit, "LimitNOFILE") == [str(WANTED_DESCRIPTORS)]
    for name in ("MemoryMax", "TasksMax"):
        (value,) = _values(unit, name)
        assert re.fullmatch(r"[0-9]+G?", value)


def test_systemd_has_nothing_to_say_about_them(tmp_path: Path) -> None:
    """The command is not installed where this is tested, so another stands in for it."""
    for unit in (AGENT, CONTROL):
        text = unit.read_text().replace("=/usr/bin/ecs-agent ", "=/bin/true ")
        (tmp_path / unit.name).write_text(text)
    drop_ins = tmp_path / f"{AGENT.name}.d"
    drop_ins.mkdir()
    shutil.copy(UNITS / "ecs-agent.service.d-example.conf", drop_ins / "example.conf")
    units = [str(tmp_path / unit.name) for unit in (AGENT, CONTROL)]
    assert _analyze("verify", "--man=no", *units) == ""


def test_users_and_directories_can_be_made(tmp_path: Path) -> None:
    root = ["--root", str(tmp_path)]
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", *root, UNITS / "ecs-agent.sysusers.conf"], check=True)
    assert "ecs-agent-control:" in (tmp_path / "etc" / "passwd").read_text()
    subprocess.run(
        ["systemd-tmpfiles", *root, "--create", UNITS / "ecs-agent.tmpfiles.conf"], check=True
    )
    assert (tmp_path / "var/lib/ecs/data").stat().st_mode & 0o777 == 0o700


def test_the_agent_finds_its_directories() -> None:
    settings = Settings()
    states = [Path("/var/lib", word) for word in _values(AGENT, "StateDirectory")[0].split()]
    assert settings.data_dir in states
    assert settings.socket_path.parent == Path("/run", *_values(AGENT, "RuntimeDirectory"))


def test_what_a_restart_cannot_help_is_not_restarted() -> None:
    for unit in (AGENT, CONTROL):
        (codes,) = _values(unit, "RestartPreventExitStatus")
        assert set(codes.split()) == {str(int(ExitCode.USAGE)), str(int(ExitCode.TERMINAL))}


def test_nothing_that_tasks_need_ends_with_the_agent() -> None:
    text = AGENT.read_text()
    for word in ("Requires=", "PartOf=", "BindsTo=", "ExecStop", "EnvironmentFile="):
        assert f"\n{word}" not in text, word
    assert _values(AGENT, "KillMode") == ["mixed"]


@pytest.mark.parametrize("unit", [AGENT, CONTROL], ids=lambda unit: unit.stem)
def test_no_variable_of_a_unit_is_taken_for_a_setting(unit: Path) -> None:
    variables = re.findall(r"\$\{?([A-Z_]+)", " ".join(_values(unit, "ExecStart")))
    variables += [line.partition("=")[0] for line in _values(unit, "Environment")]
    assert variables
    assert not [name for name in variables if name.startswith("ECS_")]
