"""``ecs-agent exec --cluster``: which task is meant, and what is refused before control is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from click.testing import CliRunner

from agent.cli import exec_control
from agent.cli.client import CliError
from agent.cli.exec import exec_
from agent.model.fleet_views import FleetTaskView, FleetView

if TYPE_CHECKING:
    from agent.cli.control_calls import ControlApi


class FakeApi:
    """A control endpoint with three tasks."""

    def __init__(self) -> None:
        tasks = [
            FleetTaskView(id="aa11", family="web", revision=1),
            FleetTaskView(id="aa22", family="shop", revision=7),
            FleetTaskView(id="bb33", family="shop", revision=8),
        ]
        self.view = FleetView(cluster="prod", at=1.0, hosts=[], tasks=tasks)
        self.asked: dict[str, Any] = {}

    def post(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        assert (path, request) == ("/control/usage", {"cluster": "prod"})
        fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.view))
        return fields

    def call(self, service: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        assert (service, operation) == ("ecs", "ExecuteCommand")
        self.asked = request
        return {"session": {"streamUrl": "ws://x:1/execute-command/s1", "tokenValue": "t"}}


def begin(api: FakeApi, task: str, container: str = "") -> exec_control.Opening:
    words = ["sh", "-c", "echo 'a b'"]
    return exec_control.begin(cast("ControlApi", api), "prod", task, container, words)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("web", "aa11"), ("bb", "bb33"), ("shop:7", "aa22"), ("arn:aws:ecs:x", "arn:aws:ecs:x")],
)
def test_a_task_is_meant_by_id_beginning_or_family(given: str, meant: str) -> None:
    api = FakeApi()
    assert begin(api, given) == ("/execute-command/s1", "t")
    assert api.asked == {
        "cluster": "prod",
        "task": meant,
        "command": "sh -c 'echo '\"'\"'a b'\"'\"''",
        "interactive": True,
    }
    begin(api, given, "side")
    assert api.asked["container"] == "side"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("aa", "matches several tasks: aa11, aa22"),
        ("shop", "several tasks"),
        ("zz", "no task 'zz'"),
    ],
)
def test_a_task_that_is_not_clear_is_refused(given: str, told: str) -> None:
    with pytest.raises(CliError, match=told):
        begin(FakeApi(), given)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cluster", "c", "-u", "me", "web"], "--user cannot be used with --cluster"),
        (["--cluster", "c", "-w", "/", "web"], "--workdir cannot be used with --cluster"),
        (["--cluster", "c", "-e", "A=b", "web"], "--env cannot be used with --cluster"),
        (["--data-dir", "/x", "web"], "--data-dir has no effect without --cluster"),
    ],
)
def test_options_that_have_no_effect_are_refused(words: list[str], told: str) -> None:
    done = CliRunner().invoke(exec_, [*words, "--", "true"])
    assert done.exit_code == 2
    assert told in done.output
