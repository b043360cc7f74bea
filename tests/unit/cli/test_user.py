"""``ecs-agent user`` against a control endpoint of its own, through its socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agent.cli import app
from tests.support.keyed_control import KeyedControl, Keys, allow, document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[KeyedControl]:
    (tmp_path / "d").mkdir()
    # The path of a socket is short.
    async with KeyedControl.running(tmp_path / "d", socket=tmp_path / "s") as running:
        # The first secret makes the file of secret keys, which control tells on the same output.
        await running.call("ssm", "put_parameter", Name="a", Value="b", Type="String")
        yield running


async def run(
    control: KeyedControl, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    def work() -> int:
        return app.main(["user", *arguments, "--data-dir", str(control.directory)])

    capsys.readouterr()
    code = await asyncio.to_thread(work)
    told = capsys.readouterr()
    return code, told.out, told.err


async def test_a_user_from_its_first_key_to_its_removal(
    control: KeyedControl, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = await run(control, capsys, "list")
    assert (code, "no users; make one" in out) == (0, True)
    file = tmp_path / "lists.json"
    file.write_text(document(allow("ecs:ListClusters")))
    code, out, err = await run(
        control, capsys, "add", "ann", "--policy", str(file), "--policy", "ReadOnlyAccess", "--json"
    )
    assert (code, err) == (0, "")
    made = json.loads(out)
    first = Keys(made["keyId"], made["secret"])
    await control.call("ecs", "list_clusters", first)
    code, out, _ = await run(control, capsys, "list")
    assert "ann   1     lists, ReadOnlyAccess" in out
    code, out, _ = await run(control, capsys, "show", "ann")
    assert '"Action": "ecs:ListClusters"' in out
    assert first.id in out
    code, out, _ = await run(control, capsys, "show", "ann", "--json")
    assert json.loads(out)["policies"] == ["lists", "ReadOnlyAccess"]
    assert first.secret not in out

    code, out, _ = await run(control, capsys, "key", "rotate", "ann", "--keep-old", "--json")
    second = Keys(json.loads(out)["keyId"], json.loads(out)["secret"])
    for keys in (first, second):
        await control.call("ecs", "list_clusters", keys)
    code, out, _ = await run(control, capsys, "key", "rotate", "ann")
    assert (code, out.splitlines()[0]) == (0, "[ann]")
    id_, secret = (line.partition(" = ")[2] for line in out.splitlines()[1:])
    third = Keys(id_, secret)
    for keys in (first, second):
        code_, _ = await control.refused("ecs", "list_clusters", keys)
        assert code_ == "UnrecognizedClientException"
    await control.call("ecs", "list_clusters", third)

    code, out, _ = await run(control, capsys, "policy", "ann")
    assert (code, out) == (0, "ann: no policies\n")
    assert (await control.refused("ecs", "list_clusters", third))[0] == "AccessDeniedException"
    code, out, _ = await run(control, capsys, "policy", "ann", "--policy", "AmazonECS_FullAccess")
    assert code == 0
    await control.call("ecs", "list_clusters", third)
    code, out, _ = await run(control, capsys, "key", "revoke", "ann", third.id)
    assert (code, out) == (0, f"revoked {third.id}\n")
    code_, _ = await control.refused("ecs", "list_clusters", third)
    assert code_ == "UnrecognizedClientException"
    code, out, _ = await run(control, capsys, "remove", "ann")
    assert (code, out) == (0, "removed ann\n")
    assert (await control.call("iam", "list_users"))["Users"] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("add", "a b"), "ValidationError: "),
        (("add", "x", "--policy", "none.json"), "none.json: there is no such file"),
        (
            ("add", "x", "--policy", "NoSuchPolicy"),
            "NoSuchEntity: Policy arn:aws:iam::aws:policy/No",
        ),
        (("show", "nobody"), "NoSuchEntity: The user with name nobody cannot be found."),
        (("remove", "nobody"), "NoSuchEntity: "),
        (("key", "rotate", "nobody"), "NoSuchEntity: "),
        (("key", "revoke", "nobody"), "name the keys to revoke, or give --all"),
        (("policy", "nobody"), "NoSuchEntity: "),
    ],
)
async def test_what_cannot_be_done_is_said_and_leaves_nothing(
    control: KeyedControl, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    code, out, err = await run(control, capsys, *arguments)
    assert (code > 0, out) == (True, "")
    assert text in err
    assert (await control.call("iam", "list_users"))["Users"] == []


async def test_a_user_without_a_policy_is_told_of(
    control: KeyedControl, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = await run(control, capsys, "add", "ann")
    assert (code, "ann may do nothing yet" in err) == (0, True)
    bad = tmp_path / "bad.json"
    bad.write_text(document(allow("ecs:*", Condition={"Bool": {"aws:ViaAWSService": "true"}})))
    code, _, err = await run(control, capsys, "add", "bob", "--policy", str(bad))
    assert (code, "aws:viaawsservice" in err) == (1, True)
    names = [each["UserName"] for each in (await control.call("iam", "list_users"))["Users"]]
    assert names == ["ann"]
    code, out, _ = await run(control, capsys, "key", "revoke", "ann", "--all")
    assert (code, out[:8]) == (0, "revoked ")
