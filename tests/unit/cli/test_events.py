"""``ecs-agent events`` against a control endpoint of its own, and the rows of its table."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import app, event_options
from agent.cli.client import CliError
from agent.cli.events import row
from tests.support.control_endpoint import ScriptedAgent, control_endpoint, definition

if TYPE_CHECKING:
    from pathlib import Path


async def run(
    data_dir: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run the command in a thread, as another process would; return code, output and errors."""
    capsys.readouterr()  # control in this process writes its log there, too
    code = await asyncio.to_thread(
        lambda: app.main(["events", *arguments, "--data-dir", str(data_dir)])
    )
    told = capsys.readouterr()
    return code, told.out, told.err


async def test_a_table_and_json_and_the_end_of_control(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The path of a socket is short.
    data_dir = tmp_path / "d"
    async with control_endpoint(data_dir, socket=tmp_path / "s") as endpoint:
        code, out, _ = await run(data_dir, capsys)
        assert (code, out) == (0, "no events are kept; wait for them with --follow\n")
        await ScriptedAgent(endpoint).register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        await endpoint.call("RunTask", taskDefinition="web")
        code, out, err = await run(data_dir, capsys)
        assert (code, err) == (0, "")
        head, *rows = out.splitlines()
        assert head == "TIME      OF          ID            WHAT"
        assert any(
            "  task        " in one and "PENDING (to be RUNNING) web:1" in one for one in rows
        )
        assert any("  host        " in one and "ACTIVE, connected" in one for one in rows)
        code, out, _ = await run(data_dir, capsys, "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        assert {line["event"]["source"] for line in lines} == {"aws.ecs"}
        code, out, _ = await run(data_dir, capsys, "--json", "--after", str(lines[-1]["place"]))
        assert (code, out) == (0, "")
        following = asyncio.create_task(run(data_dir, capsys, "--follow"))
        await asyncio.sleep(0.2)
    code, _, err = await following
    assert code == 1
    assert "has ended the stream" in err or "does not answer" in err


def an_event(kind: str, arn: str, **detail: Any) -> dict[str, Any]:
    event = {"detail-type": kind, "time": "2026-01-02T03:04:05Z", "resources": [arn]}
    return {"place": 1, "event": event | {"detail": detail}}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            an_event(
                "ECS Task State Change",
                "arn:x/" + "ab" * 16,
                lastStatus="STOPPED",
                desiredStatus="STOPPED",
                taskDefinitionArn="arn:y/a-family-with-a-long-name:12",
                stoppedReason="Essential container\nin task exited",
            ),
            "task        abababababab  STOPPED a-family-with-a-l",
        ),
        (
            an_event(
                "ECS Service Action",
                "arn:x/a-service-with-a-name",
                eventName="SERVICE_TASK_PLACEMENT_FAILURE",
                reason="RESOURCE:CPU",
            ),
            "service     a-serv…-name  SERVICE_TASK_PLACEMENT_FAILURE: RESOURCE:CPU",
        ),
        (
            an_event(
                "ECS Deployment State Change",
                "arn:x/web",
                eventName="SERVICE_DEPLOYMENT_COMPLETED",
                reason="ECS deployment ecs-svc/1 completed.",
            ),
            "deployment  web           COMPLETED: ECS deployment ecs-svc/1 com",
        ),
    ],
)
def test_rows_fit_eighty_columns(line: dict[str, Any], shown: str) -> None:
    text = row(line, 80)
    assert len(text) <= 80
    assert shown[:40] in text
    assert "\n" not in row(line, 1000)


def test_a_gap_is_told() -> None:
    assert row({"place": 3, "isGap": True}, 80) == "earlier events are not kept any more"


def test_the_file_of_a_webhook_is_checked_and_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "webhook"
    assert event_options.arguments({"event_webhook_file": None}) == []
    with pytest.raises(CliError, match="--event-webhook-file"):
        event_options.arguments({"event_webhook_file": path})
    path.write_text("https://h/x")
    assert event_options.arguments({"event_webhook_file": path}) == [
        "--event-webhook-file",
        str(path),
    ]
