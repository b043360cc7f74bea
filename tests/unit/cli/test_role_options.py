"""The options about credentials of roles: what they mean, and which values are refused."""

from __future__ import annotations

import pytest

from agent.cli import role_options
from agent.cli.client import CliError


def test_what_they_mean() -> None:
    given = {"role_duration": "30m", "task_endpoint": ""}
    read = role_options.settings(given, {"AWS_SECRET_ACCESS_KEY": "canary"})
    assert read.duration_s == 1800.0
    assert read.environ == {"AWS_SECRET_ACCESS_KEY": "canary"}
    assert "canary" not in repr(read)


@pytest.mark.parametrize("text", ["", "soon", "14m", "13h", "-1h"])
def test_times_that_sts_does_not_take_are_refused(text: str) -> None:
    for use in (lambda given: role_options.settings(given, {}), role_options.arguments):
        with pytest.raises(CliError, match=f"^--role-duration {text}: "):
            use({"role_duration": text, "task_endpoint": ""})


def test_standalone_hands_them_to_control() -> None:
    given = {"role_duration": "2h", "task_endpoint": ""}
    assert role_options.arguments(given) == ["--role-duration", "2h"]
    given["task_endpoint"] = "http://10.0.0.5:6820/"
    assert role_options.arguments(given)[2:] == ["--task-endpoint", "http://10.0.0.5:6820"]


@pytest.mark.parametrize(
    "text", ["10.0.0.5:6820", "ftp://x", "http://a@b", "http://x/y", "http://"]
)
def test_urls_that_tasks_could_not_use_are_refused(text: str) -> None:
    given = {"role_duration": "1h", "task_endpoint": text}
    for use in (lambda given: role_options.settings(given, {}), role_options.arguments):
        with pytest.raises(CliError, match=f"^--task-endpoint {text}: "):
            use(given)
