from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest

from agent.doctor.bundle.redact import REMOVED, Redactor, is_secret_name

NOTHING_KNOWN = Redactor([])


@pytest.mark.parametrize(
    "text",
    [
        "https://bob:CANARY@registry.example/v2/",
        "http://CANARY@proxy.example:3128",
        "http://bob:CANA/CANARY@proxy.example",
        "Authorization: Bearer CANARY-and-more",
        '"Authorization": "Basic CANARYCANARY=="',
        "proxy-authorization: digest CANARY",
        "sent bearer CANARYCANARY to control",
        "AKIACANARY0CANARY000",
        "key ASIACANARY0CANARY000 was used",
        "aws_secret_access_key = CANARY",
        "AWS_SESSION_TOKEN=CANARY/abc+def==",
        'password="CANARY with blanks"',
        "MYSQL_ROOT_PASSWORD: 'CANARY'",
        '{"password":"CANARY","user":"bob"}',
        '{\\"password\\":\\"CANARY\\"}',
        '{"auths":{"r.example":{"auth":"CANARY"}}}',
        '{"identitytoken": "CANARY"}',
        "mysqld --password CANARY --port 1",
        "curl --api-key=CANARY",
        "https://s3.example/x?X-Amz-Signature=CANARY&X-Amz-Date=1",
        "-----BEGIN RSA PRIVATE KEY-----\nCANARY\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nCANARY cut off",
        "got eyJhbGciOiJIUzI1.CANARYCANARY.c2lnbmF0dXJl",
        "ECS_ENGINE_AUTH_DATA=CANARY",
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str) -> None:
    cleaned = NOTHING_KNOWN.clean(text)
    assert "CANARY" not in cleaned
    assert REMOVED in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "ECS_CONTROL_TOKEN_FILE=/etc/ecs/token",
        "only root can read the token file /etc/ecs/token",
        '{"tokenAsked": true, "secret": null}',
        "http://192.0.2.10:6820/v1/hello",
        "image: registry.example:5000/web@sha256:00ff",
        "authenticated as nobody",
        "PWD=/root OLDPWD=/home",
        "net.ipv4.ip_forward is on",
        "level=info msg=started task=abc keyboard=us",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert NOTHING_KNOWN.clean(text) == text


def test_known_values_are_removed_in_every_form() -> None:
    value = 'p"ä/ss wörd&x'
    forms = [
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        quote(value, safe=""),
        base64.b64encode(value.encode()).decode(),
    ]
    redactor = Redactor([value])
    for form in forms:
        assert redactor.clean(f"seen {form} here").count(REMOVED) == 1
        assert form.strip('"') not in redactor.clean(f"seen {form} here")


def test_a_short_known_value_is_removed_only_where_it_stands_alone() -> None:
    assert Redactor(["web"]).clean("web website web/x") == f"{REMOVED} website {REMOVED}/x"


def test_of_two_known_values_the_longer_is_removed_whole() -> None:
    assert Redactor(["secret", "secret-and-more"]).clean("secret-and-more") == REMOVED


def test_json_stays_json() -> None:
    document = {
        "password": "x",
        "nested": {"token": "y", "credentials": {"a": 1}, "apiKey": [1], "tokenAsked": True},
        "auths": {"r": {"auth": "z"}},
        "pin": 1234,
        "lines": ["Authorization: Bearer abc", "it's 12345", "password='it'"],
        "hunter2": None,
    }
    redactor = Redactor(["1234", "hunter2", "true", "null"])
    for clean in (redactor.clean_json, NOTHING_KNOWN.clean):
        cleaned = json.loads(clean(json.dumps(document)))
        assert cleaned["password"] == REMOVED
        assert cleaned["nested"]["token"] == REMOVED
        assert cleaned["nested"]["credentials"] == {"a": 1}
        assert cleaned["nested"]["tokenAsked"] is True
        assert cleaned["auths"]["r"]["auth"] == REMOVED
    cleaned = json.loads(redactor.clean_json(json.dumps(document)))
    assert cleaned["pin"] == REMOVED
    assert cleaned[REMOVED] is None
    assert cleaned["lines"] == [f"Authorization: {REMOVED}", "it's 12345", f"password='{REMOVED}'"]
    assert redactor.clean_json("token=x, no JSON") == f"token={REMOVED}, no JSON"


def test_long_lines_do_not_take_long() -> None:
    began = time.monotonic()
    for text in ("a" * 500_000, "token=" * 100_000, "://" * 100_000, '"' * 300_000, "-" * 300_000):
        NOTHING_KNOWN.clean(text)
    assert time.monotonic() - began < 10  # it takes half a second; squared, it would take hours


def test_names_of_secrets() -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "githubToken", "api-key"):
        assert is_secret_name(name)
    for name in ("ECS_CONTROL_TOKEN_FILE", "PATH", "ECS_CLUSTER", "password_path"):
        assert not is_secret_name(name)
