"""Registry credentials."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.values import SecretText
from agent.errors import ConfigError
from agent.images import reference
from agent.images.auth import Credentials


def _user(credentials: Credentials, image: str) -> str:
    found = credentials.find(reference.parse(image))
    return found.username if found else ""


def _docker(entries: dict[str, Any]) -> Credentials:
    return Credentials("docker", SecretText(json.dumps(entries)))


def _login(name: str) -> dict[str, str]:
    return {"username": name, "password": "canary", "email": "x@example.com"}


def test_the_longest_path_wins() -> None:
    known = _docker(
        {
            "https://index.docker.io/v1/": _login("hub"),
            "https://q.io": _login("q"),
            "http://q.io/team/": _login("team"),
            "localhost:5000/v2/": _login("local"),
        }
    )
    assert _user(known, "busybox") == "hub"
    assert _user(known, "docker.io/me/app:v1") == "hub"
    assert _user(known, "q.io/other/app") == "q"
    assert _user(known, "q.io/team/app:v1") == "team"
    assert _user(known, "q.io/teamwork/app") == "q"
    assert _user(known, "localhost:5000/app") == "local"
    assert _user(known, "elsewhere.io/app") == ""


def test_dockercfg() -> None:
    auth = base64.b64encode(b"me:pass:word").decode()
    for text in ({"q.io": {"auth": auth}}, {"auths": {"q.io": {"auth": auth}}}):
        found = Credentials("dockercfg", SecretText(json.dumps(text))).find(
            reference.parse("q.io/a")
        )
        assert found is not None
        assert (found.username, found.password) == ("me", "pass:word")
        assert "pass:word" not in repr(found)


def test_nothing_given() -> None:
    assert _user(Credentials(), "busybox") == ""
    assert _user(Credentials("docker", SecretText()), "busybox") == ""


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("other", "{}", "'other' is unknown; use docker or dockercfg"),
        ("docker", "{canary", "not a JSON object"),
        ("docker", '["canary"]', "not a JSON object"),
        ("docker", '{"q.io": "canary"}', "the entry of 'q.io' is not an object"),
        ("docker", '{"q.io": {"username": "canary"}}', "lacks username and password"),
        ("docker", '{"q.io": {"username": 1, "password": "canary"}}', "lacks username"),
        ("dockercfg", '{"q.io": {}}', "lacks auth"),
        ("dockercfg", '{"q.io": {"auth": "canary!"}}', "not valid Base64"),
        ("dockercfg", '{"q.io": {"auth": "Y2FuYXJ5"}}', "does not contain username:password"),
    ],
)
def test_bad_data_is_named_and_not_shown(kind: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as info:
        Credentials(kind, SecretText(text))
    assert "canary" not in str(info.value)


@given(st.sampled_from(["docker", "dockercfg"]), st.text())
def test_no_data_is_too_strange(kind: str, text: str) -> None:
    with contextlib.suppress(ConfigError):
        Credentials(kind, SecretText(text))
