"""The options about logs of tasks: what they mean, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.cli import log_options
from agent.cli.client import CliError

GIVEN: dict[str, Any] = {
    "log_max_size": "2g",
    "log_retention": 0,
    "log_forward": (),
    "log_forward_headers": None,
    "no_logs": False,
}


def test_what_they_mean() -> None:
    plain = log_options.settings(GIVEN)
    assert (plain.are_kept, plain.most_bytes, plain.retention_days) == (True, 2 * 2**30, None)
    small = log_options.settings(
        GIVEN | {"log_max_size": "512M", "log_retention": 30, "no_logs": True}
    )
    assert (small.are_kept, small.most_bytes, small.retention_days) == (False, 512 * 2**20, 30)


@pytest.mark.parametrize("text", ["", "2", "2gb", "-2g", "1.5g", "63m"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    for use in (log_options.settings, log_options.arguments):
        with pytest.raises(CliError, match=f"^--log-max-size {text}: is"):
            use(GIVEN | {"log_max_size": text})


def test_where_logs_are_forwarded(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    found = log_options.settings(
        GIVEN
        | {
            "log_forward": (
                "cloudwatch:eu-west-1",
                "cloudwatch:eu-west-2,https://vpce.example",
                "http://loki:3100/",
            ),
            "log_forward_headers": headers,
        }
    )
    assert [(target.name, target.headers_file) for target in found.forward] == [
        ("cloudwatch:eu-west-1", None),
        ("cloudwatch:eu-west-2,https://vpce.example", None),
        ("http://loki:3100", headers),
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"log_forward": ("cloudwatch:",)}, "the region"),
        ({"log_forward": ("loki:3100",)}, "not a URL of http"),
        ({"log_forward": ("http://user:secret@loki",)}, "--log-forward-headers"),
        ({"log_forward": ("http://loki", "http://loki/")}, "twice"),
        ({"log_forward": ("http://loki",), "no_logs": True}, "--no-logs"),
        ({"log_forward_headers": Path("x")}, "is for Loki"),
    ],
)
def test_what_cannot_be_forwarded_to_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(CliError, match=words) as caught:
        log_options.settings(GIVEN | more)
    assert "secret" not in str(caught.value)


def test_standalone_hands_them_to_control() -> None:
    assert log_options.arguments(GIVEN | {"no_logs": True}) == [
        *("--log-max-size", "2g", "--log-retention", "0", "--no-logs")
    ]
    more = {"log_forward": ("http://a", "http://b"), "log_forward_headers": Path("h")}
    assert log_options.arguments(GIVEN | more)[4:] == [
        *("--log-forward", "http://a", "--log-forward", "http://b", "--log-forward-headers", "h")
    ]
