"""The examples: they can be read, and name only what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with awscli; no stubs

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "packer/examples"
USER_DATA = EXAMPLES / "cloud-init/user-data.yaml"
PLAYBOOK = EXAMPLES / "ansible/join.yml"


@pytest.fixture(scope="module")
def joining() -> str:
    """What `join --help` says."""
    command = [sys.executable, "-m", "agent", "join", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    return done.stdout


@pytest.mark.parametrize("example", [USER_DATA, PLAYBOOK], ids=["cloud-init", "ansible"])
def test_join_knows_every_option_that_an_example_gives_it(example: Path, joining: str) -> None:
    given = re.findall(r"(?<![\w-])--[a-z-]+", without_comments(example.read_text()))

    assert {"--cluster", "--token-file"} <= {*given}
    assert all(f"  {option}" in joining for option in given), given


def test_the_token_of_the_user_data_goes_where_it_is_read_and_is_taken_away() -> None:
    text = USER_DATA.read_text()
    data: dict[str, Any] = yaml.safe_load(text)

    assert text.startswith("#cloud-config\n")
    (file,), (script,) = data["write_files"], data["runcmd"]
    assert file["permissions"] == "0600"
    assert f"--token-file {file['path']}" in script
    assert f"rm -f {file['path']}" in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True, timeout=10)


def test_the_playbook_shows_the_token_to_nobody() -> None:
    (play,) = yaml.safe_load(PLAYBOOK.read_text())
    (join,) = [task for task in play["tasks"] if task["name"] == "Join"]

    (handing,) = [task for task in join["block"] if "ecs_join_token" in str(task)]
    assert handing["no_log"] is True
    assert handing["ansible.builtin.copy"]["mode"] == "0600"
    assert join["always"][0]["ansible.builtin.file"]["state"] == "absent"


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
