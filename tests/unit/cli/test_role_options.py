"""The options about credentials of roles: what they mean, and which values are refused."""

from __future__ import annotations

import pytest

from agent.cli import role_options
from agent.cli.client import CliError


def test_what_they_mean() -> None:
    read = role_options.settings({"role_duration": "30m"}, {"AWS_SECRET_ACCESS_KEY": "canary"})
    assert read.duration_s == 1800.0
    assert read.environ == {"AWS_SECRET_ACCESS_KEY": "canary"}
    assert "canary" not in repr(read)


@pytest.mark.parametrize("text", ["", "soon", "14m", "13h", "-1h"])
def test_times_that_sts_does_not_take_are_refused(text: str) -> None:
    for use in (lambda given: role_options.settings(given, {}), role_options.arguments):
        with pytest.raises(CliError, match=f"^--role-duration {text}: "):
            use({"role_duration": text})


def test_standalone_hands_them_to_control() -> None:
    assert role_options.arguments({"role_duration": "2h"}) == ["--role-duration", "2h"]
