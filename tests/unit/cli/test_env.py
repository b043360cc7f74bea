from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import app, env
from agent.controlplane.front import address, keys
from agent.controlplane.front.address import Address

if TYPE_CHECKING:
    from pathlib import Path


def control_in(directory: Path, **changes: Any) -> Path:
    """Leave what a control endpoint leaves in its data directory."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "credentials"
    keys.load(file)
    values: dict[str, Any] = {
        "url": "http://127.0.0.1:6820",
        "region": "eu-west-1",
        "keys_file": str(file),
    }
    address.write(directory, Address(**(values | changes)))
    return directory


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = app.main(["env", *arguments])
    out, error = capsys.readouterr()
    return code, out, error


def test_what_it_prints_is_for_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = control_in(tmp_path / "with 'quotes'", certificate="/a b/c.pem")
    (key,) = keys.load(place / "credentials").values()
    code, out, _ = printed(capsys, "--data-dir", str(place))
    assert code == 0
    script = f"set -u\nAWS_SESSION_TOKEN=old\neval $(cat {shlex.quote(str(tmp_path / 'out'))})\nenv"
    (tmp_path / "out").write_text(out)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["AWS_ENDPOINT_URL_ECS"] == "http://127.0.0.1:6820"
    assert found["AWS_ACCESS_KEY_ID"] == key.id
    assert found["AWS_SECRET_ACCESS_KEY"] == key.secret
    assert found["AWS_DEFAULT_REGION"] == found["AWS_REGION"] == "eu-west-1"
    assert found["AWS_CA_BUNDLE"] == "/a b/c.pem"
    assert "AWS_SESSION_TOKEN" not in found


def test_json_and_the_directory_of_standalone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control_in(tmp_path / "control")
    code, out, _ = printed(capsys, "--json", "--data-dir", str(tmp_path))
    assert code == 0
    assert set(json.loads(out)) == {
        *("AWS_ENDPOINT_URL_ECS", "AWS_DEFAULT_REGION", "AWS_REGION"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_finds_the_keys_of_a_control_that_runs_as_a_user_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the service does; a file of a third user in its directory is still refused."""
    place = control_in(tmp_path / "control")
    for path in (place, *place.iterdir()):
        os.chown(path, 4711, -1)
    assert printed(capsys, "--data-dir", str(place))[0] == 0
    os.chown(place / "credentials", 4712, -1)
    code, _, error = printed(capsys, "--data-dir", str(place))
    assert code
    assert "belongs to another user" in error


def test_an_open_control_gives_keys_that_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control_in(tmp_path, keys_file="")
    _, out, _ = printed(capsys, "--json", "--data-dir", str(tmp_path))
    assert json.loads(out)["AWS_SECRET_ACCESS_KEY"] == "open"  # noqa: S105 - what says that it is none


def test_every_service_that_control_serves_has_its_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = ["AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL_SERVICEDISCOVERY"]
    control_in(tmp_path, endpoint_variables=variables)
    _, out, _ = printed(capsys, "--json", "--data-dir", str(tmp_path))
    found = json.loads(out)
    for variable in variables:
        assert found[variable] == found["AWS_ENDPOINT_URL_ECS"]
    assert found["AWS_DISABLE_HOST_PREFIX_INJECTION"] == "true"


def test_the_newest_of_the_usual_places_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    older = control_in(tmp_path / "a", url="http://127.0.0.1:1")
    control_in(tmp_path / "b", url="http://127.0.0.1:2")
    os.utime(older / address.FILE, (1, 1))
    monkeypatch.setattr(env, "DATA_DIRS", (tmp_path / "a", tmp_path / "missing", tmp_path / "b"))
    _, out, _ = printed(capsys, "--json")
    assert json.loads(out)["AWS_ENDPOINT_URL_ECS"] == "http://127.0.0.1:2"


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = printed(capsys, "--data-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert (
        f"no control endpoint has run with the data directory {tmp_path}; start 'ecs-agent standalone'"
        in error
    )
    place = control_in(tmp_path)
    (place / "credentials").unlink()
    code, out, error = printed(capsys, "--data-dir", str(tmp_path))
    assert (code, out) == (1, "")
    assert "is missing; restart control" in error
    (place / address.FILE).write_text("{")
    code, _, error = printed(capsys, "--data-dir", str(tmp_path))
    assert (code, "no control endpoint has run" in error) == (1, True)
