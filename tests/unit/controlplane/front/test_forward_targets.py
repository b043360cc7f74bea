"""Where calls are sent on to, as an operator writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.front import forward_targets
from agent.controlplane.front.forward_targets import Target
from agent.errors import ConfigError


def test_targets_by_service() -> None:
    assert forward_targets.parse(
        ["s3=http://10.0.0.5:9000/", "dynamodb=http://[fd00::1]:8000", "*=https://x,host"]
    ) == {
        "s3": Target("http://10.0.0.5:9000"),
        "dynamodb": Target("http://[fd00::1]:8000"),
        "*": Target("https://x", keeps_host=False),
    }
    assert forward_targets.parse([]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://10.0.0.5", "SERVICE=URL"),
        ("S3=http://x", "SERVICE=URL"),
        ("=http://x", "SERVICE=URL"),
        ("s3=10.0.0.5:9000", "no URL"),
        ("s3=http://", "no URL"),
        ("s3=http://x:99999", "no URL"),
        ("s3=http://x:0", "no URL"),
        ("s3=http://[x", "no URL"),
        ("s3=http://user:hunter2@x", "password"),
        ("s3=http://x/path", "path"),
        ("s3=http://x?a=b", "path"),
    ],
)
def test_what_is_none_is_refused_and_shows_no_password(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        forward_targets.parse([text])
    assert "hunter2" not in str(caught.value)


def test_a_service_is_named_once_and_not_served_here() -> None:
    with pytest.raises(ConfigError, match="twice"):
        forward_targets.parse(["s3=http://x", "s3=http://y"])
    targets = forward_targets.parse(["s3=http://x", "*=http://y"])
    forward_targets.check_not_served(targets, ["ecs", "logs"])
    with pytest.raises(ConfigError, match="serves s3 itself"):
        forward_targets.check_not_served(targets, ["s3"])


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    for written in (text, f"s3={text}", f"s3=http://{text}"):
        try:
            forward_targets.parse([written])
        except ConfigError:
            continue
