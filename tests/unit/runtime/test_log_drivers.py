"""What is said of logs that the engine cannot read back."""

from __future__ import annotations

import pytest

from agent.errors import EngineRefused
from agent.runtime.docker.log_drivers import refuse_unreadable, unreadable


@pytest.mark.parametrize(
    ("driver", "options", "told"),
    [
        ("none", {}, "its log driver is 'none', which keeps nothing"),
        (
            "awslogs",
            {"awslogs-group": "/g", "awslogs-stream": "a/b", "awslogs-region": "x"},
            "its log driver 'awslogs' cannot be read back; its output goes to log group /g, stream a/b",
        ),
        (
            "splunk",
            {"splunk-token": "secret", "splunk-url": "https://s:8088"},
            "its log driver 'splunk' cannot be read back; its output goes to URL https://s:8088",
        ),
        (
            "syslog",
            {},
            "its log driver 'syslog' cannot be read back; its output goes to syslog of this host",
        ),
        (
            "odd",
            {"secret": "x"},
            "its log driver 'odd' cannot be read back; its output goes to where the driver 'odd' sends it",
        ),
    ],
)
def test_where_the_output_goes(driver: str, options: dict[str, str], told: str) -> None:
    assert unreadable(driver, options) == told


def test_only_that_refusal_is_reworded() -> None:
    container = {"HostConfig": {"LogConfig": {"Type": "none", "Config": None}}}
    refuse_unreadable('{"message":"no such container"}', container)
    with pytest.raises(EngineRefused, match="which keeps nothing"):
        refuse_unreadable("configured logging driver does not support reading", container)
