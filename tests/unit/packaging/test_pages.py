"""Manual pages and the settings file that is installed: whole, and in the words of the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from agent.cli import app
from agent.config import load
from agent.config.settings import variables
from packager import man, roff

ROOT = Path(__file__).parents[3]
PAGES = {page.name: page for page in man.pages("1.2.3", 1_700_000_000)}


def test_every_command_has_a_page_with_its_options() -> None:
    context = click.Context(app.group)
    for name in app.group.list_commands(context):
        command = app.group.get_command(context, name)
        assert command is not None
        text = PAGES[f"ecs-agent-{name}"].text()
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert roff.escape(parameter.opts[0]) in text, f"{name} {parameter.opts[0]}"


def test_every_setting_is_in_ecs_config() -> None:
    text = PAGES["ecs.config"].text()
    for variable in variables().values():
        assert f".TP\n\\fB{variable.name}\\fR\n" in text


def test_units_name_pages_that_exist() -> None:
    pages = {f"{page.name}({page.section})" for page in PAGES.values()}
    named = {
        page
        for unit in (ROOT / "systemd").glob("*.service")
        for page in re.findall(r"\bman:(\S+)", unit.read_text())
    }
    assert named
    assert named <= pages


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("name", PAGES)
def test_man_has_nothing_to_complain_of(name: str, tmp_path: Path) -> None:
    page = PAGES[name]
    path = tmp_path / page.file_name
    path.parent.mkdir()
    path.write_text(page.text())
    answer = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(path)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
        capture_output=True,
        check=True,
    )
    assert answer.stderr == b""
    assert len(answer.stdout) > 1000


def test_what_roff_would_take_for_markup_is_shown_as_it_stands() -> None:
    assert roff.escape(r"a\b -c") == r"a\eb \-c"
    assert roff.escape(".so x\n'y") == "\\&.so x\n\\(aqy"
    assert roff.prose("see `--x`,\n  then") == r"see \fB\-\-x\fR, then"


def test_the_installed_settings_file_changes_nothing_and_names_real_settings(
    tmp_path: Path,
) -> None:
    text = (ROOT / "packaging/files/ecs.config").read_text()
    installed = tmp_path / "installed"
    installed.write_text(text)
    assert load({}, [installed]) == load({}, [])
    everything = re.sub(r"(?m)^#(?=[A-Z])", "", text)
    # A host has one control: either half of the file makes sense, and both together do not.
    for other in (r"(?m)^(AWS_|ECS_EXTERNAL|HTTPS_PROXY).*", r"(?m)^ECS_CONTROL_.*"):
        uncommented = tmp_path / "uncommented"
        uncommented.write_text(re.sub(other, "", everything))
        settings = load({}, [uncommented])
        assert settings.cluster == "default"
        assert not settings.warnings
