from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFINITION = {
    "family": "web",
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [{"name": "app", "image": "nginx", "memory": 64}],
}
OPEN = {
    **DEFINITION,
    "networkMode": "host",
    "volumes": [{"name": "v", "host": {"sourcePath": "/var/run"}}],
    "containerDefinitions": [
        {
            "name": "app",
            "image": "nginx",
            "memory": 64,
            "privileged": True,
            "mountPoints": [{"sourceVolume": "v", "containerPath": "/x"}],
            "linuxParameters": {
                "capabilities": {"add": ["SYS_ADMIN"]},
                "devices": [{"hostPath": "/dev/kvm"}],
            },
            "dockerSecurityOptions": ["no-new-privileges"],
        }
    ],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that nobody else can replace; those of pytest may be open to all."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def policy(folder: Path) -> str:
    path = folder / "policy.toml"
    path.write_text('images = ["nginx"]\n[max_task]\nmemory_mib = 512\n')
    path.chmod(0o644)
    return str(path)


def definition(tmp_path: Path, given: Any) -> str:
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(given))
    return str(path)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECS_HOST_POLICY_FILE", raising=False)
    monkeypatch.setattr("agent.cli.policy.DEFAULT_FILES", ())


def run(*words: str) -> int:
    return main(["policy", *words])


def test_a_definition_that_may_run(tmp_path: Path, policy: str, capsys: Any) -> None:
    for given in (
        DEFINITION,
        {"taskDefinition": {**DEFINITION, "revision": 3, "status": "ACTIVE"}},
    ):
        assert run("check", definition(tmp_path, given), "--policy", policy) == 0
        assert capsys.readouterr().out == f"host policy {policy}: nothing is refused\n"


def test_everything_that_is_refused_of_a_definition(
    tmp_path: Path, policy: str, capsys: Any
) -> None:
    assert run("check", definition(tmp_path, OPEN), "--policy", policy) == 1
    lines = capsys.readouterr().out.splitlines()
    rules = [line.removeprefix(f"host policy {policy}: rule ").split(":")[0] for line in lines]
    assert rules == ["privileged", "added_capabilities", "host_namespaces", "host_paths", "devices"]


def test_the_policy_is_shown_as_it_is_written(policy: str, capsys: Any) -> None:
    assert run("show", "--policy", policy) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"policy {policy}\n")
    assert "memory_mib 512" in shown
    assert run("show", "--policy", policy, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["rules"]["images"]) == (policy, ["nginx"])


def test_what_cannot_be_tried_is_told(tmp_path: Path, policy: str, capsys: Any) -> None:
    assert run("show") == 1
    assert "this host has no policy of its own" in capsys.readouterr().err
    assert run("check", str(tmp_path / "none"), "--policy", policy) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert run("check", definition(tmp_path, {"family": "x"}), "--policy", policy) == 1
    assert "the task definition is not valid" in capsys.readouterr().err
    assert run("check", definition(tmp_path, []), "--policy", policy) == 1
    Path(policy).write_text("privilegd = 1")
    assert run("show", "--policy", policy) == 1
    assert "did you mean privileged?" in capsys.readouterr().err
