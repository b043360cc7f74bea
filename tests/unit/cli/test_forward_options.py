"""The option that sends calls on: it is checked, and handed on by standalone."""

from __future__ import annotations

import pytest

from agent.cli import forward_options
from agent.cli.client import CliError
from agent.controlplane.front.forward_targets import Target


def test_it_is_read_and_handed_on() -> None:
    given = {"forward": ("s3=http://10.0.0.5:9000", "*=https://others.lan,host")}
    assert forward_options.targets(given) == {
        "s3": Target("http://10.0.0.5:9000"),
        "*": Target("https://others.lan", keeps_host=False),
    }
    assert forward_options.arguments(given) == [
        *("--forward", "s3=http://10.0.0.5:9000", "--forward", "*=https://others.lan,host")
    ]
    assert forward_options.arguments({"forward": ()}) == []


def test_what_is_wrong_is_said_with_the_name_of_the_option() -> None:
    with pytest.raises(CliError, match=r"^--forward s3: is no URL"):
        forward_options.arguments({"forward": ("s3=ftp://x",)})
