"""The options about logs of tasks: what they mean, and what is wrong with others."""

from __future__ import annotations

from typing import Any

import pytest

from agent.cli import log_options
from agent.cli.client import CliError

GIVEN: dict[str, Any] = {"log_max_size": "2g", "log_retention": 0, "no_logs": False}


def test_what_they_mean() -> None:
    plain = log_options.settings(GIVEN)
    assert (plain.are_kept, plain.most_bytes, plain.retention_days) == (True, 2 * 2**30, None)
    small = log_options.settings({"log_max_size": "512M", "log_retention": 30, "no_logs": True})
    assert (small.are_kept, small.most_bytes, small.retention_days) == (False, 512 * 2**20, 30)


@pytest.mark.parametrize("text", ["", "2", "2gb", "-2g", "1.5g", "63m"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    for use in (log_options.settings, log_options.arguments):
        with pytest.raises(CliError, match=f"^--log-max-size {text}: is"):
            use(GIVEN | {"log_max_size": text})


def test_standalone_hands_them_to_control() -> None:
    assert log_options.arguments(GIVEN | {"no_logs": True}) == [
        *("--log-max-size", "2g", "--log-retention", "0", "--no-logs")
    ]
