"""``ecs-agent secret`` against a control endpoint of its own, through its socket."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.cli import app
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    Run = Callable[..., Any]

ARN = "arn:aws:ssm:us-east-1:000000000000:parameter/"


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    # The path of a socket is short.
    async with control_endpoint(tmp_path / "d", socket=tmp_path / "s", keys_file=tmp_path / "k"):
        yield tmp_path / "d"


async def run(
    data_dir: Path, capsys: pytest.CaptureFixture[str], *arguments: str, given: str = ""
) -> tuple[int, str, str]:
    """Run a command in a thread, as another process would; return code, output and errors."""

    def work() -> int:
        return app.main(["secret", *arguments, "--data-dir", str(data_dir)])

    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given.encode()))
    try:
        code = await asyncio.to_thread(work)
    finally:
        sys.stdin = stdin
    told = capsys.readouterr()
    return code, told.out, told.err


async def test_a_secret_from_standard_input_to_its_removal(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = await run(data_dir, capsys, "put", "/app/db", given="canary\n")
    assert (code, err) == (0, "")
    assert "stored /app/db, version 1" in out
    assert f'"valueFrom": "{ARN}app/db"' in out
    code, out, _ = await run(
        data_dir, capsys, "put", "/app/db", "--json", "--description", "d", given="canary"
    )
    assert json.loads(out) == {"name": "/app/db", "arn": f"{ARN}app/db", "version": 2}
    code, out, _ = await run(data_dir, capsys, "list")
    assert code == 0
    assert "/app/db  2 " in out
    code, out, _ = await run(data_dir, capsys, "list", "--json")
    (listed,) = json.loads(out)
    assert listed["description"] == "d"
    assert "canary" not in out
    code, out, err = await run(data_dir, capsys, "remove", "/app/db", "other")
    assert (code, out) == (1, "removed /app/db\n")
    assert "other: there is no such secret" in err
    code, out, _ = await run(data_dir, capsys, "list")
    assert "no secrets; store one with" in out


async def test_a_value_from_a_file_is_kept_but_for_its_last_line_break(
    data_dir: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "value"
    file.write_text("-----BEGIN-----\ncanary\n-----END-----\n\n")
    code, _, _ = await run(data_dir, capsys, "put", "key", "--value-file", str(file))
    assert code == 0
    code, out, _ = await run(data_dir, capsys, "list", "--json")
    assert [one["name"] for one in json.loads(out)] == ["key"]


@pytest.mark.parametrize(
    ("arguments", "given", "text"),
    [
        (("put", "a b"), "canary", "ValidationException: Parameter name"),
        (("put", "a"), "", "standard input: is empty"),
        (("put", "a"), "x" * 70_000, "longer than a secret can be"),
        (("put", "a"), "x" * 9_000, "1 to 8192 characters"),
        (("put", "a", "--value-file", "/nonexistent"), "", "/nonexistent: No such file"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    given: str,
    text: str,
) -> None:
    code, out, err = await run(data_dir, capsys, *arguments, given=given)
    assert (code, out) == (1, "")
    assert text in err
    assert err.count("\n") == 1
    assert "canary" not in err


async def test_keys_are_changed(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await run(data_dir, capsys, "put", "a", given="canary")
    code, out, _ = await run(data_dir, capsys, "rotate-key")
    assert code == 0
    assert f"1 secrets encrypted with it; {data_dir / 'secrets.keys'} has 2 keys" in out
    code, out, _ = await run(data_dir, capsys, "rotate-key", "--forget-old", "--json")
    assert json.loads(out[out.index("{") :])["keys"] == 1


async def test_a_control_that_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with control_endpoint(tmp_path / "d", socket=tmp_path / "s"):
        pass
    code, _, err = await run(tmp_path / "d", capsys, "list")
    assert code == 1
    assert f"the control endpoint does not answer on {tmp_path / 's'}" in err
    code, _, err = await run(tmp_path / "none", capsys, "list")
    assert code == 1
    assert "no control endpoint has run" in err


def test_a_value_is_never_an_argument() -> None:
    result = CliRunner().invoke(app.group, ["secret", "put", "--help"])
    assert "VALUE" not in result.output.replace("--value-file", "")
