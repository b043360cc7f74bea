from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.preparations.secret_references import (
    BadReference,
    Keeper,
    Reference,
    checked,
    member,
    wanted_secrets,
)
from agent.model.payload import EngineConfig, Secret
from tests.support.tasks import container, payload

ASM = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"
SSM = "arn:aws:ssm:eu-west-2:123456789012:parameter/prod/db"
SPLUNK = EngineConfig(host_config={"LogConfig": {"Type": "splunk"}})


def secret(value_from: str, provider: str | None = "ssm", **fields: Any) -> Secret:
    given: dict[str, Any] = {"name": "X", "type": "ENVIRONMENT_VARIABLE", **fields}
    return Secret(value_from=value_from, provider=provider, **given)


@pytest.mark.parametrize(
    ("given", "reference", "key"),
    [
        (secret("/prod/db"), Reference(Keeper.SSM, "/prod/db"), ""),
        (secret("db:3", region="r-1"), Reference(Keeper.SSM, "db:3", "r-1"), ""),
        (secret(SSM), Reference(Keeper.SSM, SSM, "eu-west-2"), ""),
        # Where an ARN names a region, that one counts.
        (secret(SSM, region="r-1"), Reference(Keeper.SSM, SSM, "eu-west-2"), ""),
        (secret(ASM, "asm", region="r-1"), Reference(Keeper.ASM, ASM, "eu-west-1"), ""),
        (secret(f"{ASM}:::", "asm"), Reference(Keeper.ASM, ASM, "eu-west-1"), ""),
        (secret(f"{ASM}:k::", "asm"), Reference(Keeper.ASM, ASM, "eu-west-1"), "k"),
        (
            secret(f"{ASM}:k:AWSPREVIOUS:v-1", "asm"),
            Reference(Keeper.ASM, ASM, "eu-west-1", "AWSPREVIOUS", "v-1"),
            "k",
        ),
        (
            secret(f"{ASM}::AWSPREVIOUS:", "asm"),
            Reference(Keeper.ASM, ASM, "eu-west-1", "AWSPREVIOUS"),
            "",
        ),
        (
            secret("prod/db", None, endpoint="control"),
            Reference(Keeper.CONTROL, "prod/db"),
            "",
        ),
        (secret(ASM, "asm", endpoint="control"), Reference(Keeper.CONTROL, ASM), ""),
    ],
)
def test_where_a_secret_is_kept(given: Secret, reference: Reference, key: str) -> None:
    (wanted,) = wanted_secrets(payload(container("a", secrets=[given])))
    assert (wanted.reference, wanted.json_key) == (reference, key)
    assert (wanted.container, wanted.variable, wanted.for_log_driver) == ("a", "X", False)


def test_what_goes_to_the_log_driver() -> None:
    option = secret("token", target="LOG_DRIVER", type="BOOTSTRAP", name="splunk-token")
    (wanted,) = wanted_secrets(payload(container("a", secrets=[option], docker_config=SPLUNK)))
    assert wanted.for_log_driver
    assert wanted.shown == "log option 'splunk-token' of container a"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (secret("x", "vault"), "provider 'vault' is not known"),
        (secret("x", None), "provider None is not known"),
        (secret("x", endpoint="elsewhere"), "endpoint 'elsewhere' is not known"),
        (secret("x", target="DISK"), "target 'DISK' is not known"),
        (secret("x", type="MOUNT_POINT"), "type 'MOUNT_POINT' is not supported"),
        (secret("x", target="LOG_DRIVER"), "its container has no log driver"),
        (secret("x", name=""), "its name is empty"),
        (secret("x", name="A=B"), "a character that no variable may have"),
        (secret("x", name="A\0"), "a character that no variable may have"),
        (secret(""), "valueFrom is empty"),
        (secret("db-AbCdEf", "asm"), "unexpected ARN format"),
        (secret(f"{ASM}:k", "asm"), "unexpected ARN format"),
        (secret(f"{ASM}:k:s:v:more", "asm"), "unexpected ARN format"),
        (secret(SSM, "asm"), "unexpected ARN format"),
        (secret("arn:aws:secretsmanager:r:1:secret:", "asm"), "unexpected ARN format"),
    ],
)
def test_what_cannot_be_given_is_named(given: Secret, text: str) -> None:
    with pytest.raises(BadReference, match=text) as caught:
        wanted_secrets(payload(container("a", secrets=[given])))
    assert str(caught.value).startswith(f"secret {given.name!r} of container a: ")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ('"text"', "text"),
        ('"a \\"b\\" \\u00e9\\n"', 'a "b" é\n'),
        ("12345678901234567890", "12345678901234567890"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("null", "null"),
        ('{"a": [1, 2.50]}', '{"a": [1, 2.50]}'),
        ('""', ""),
    ],
)
def test_a_member_is_shown_as_it_was_written(raw: str, shown: str) -> None:
    assert member(f'{{"other": 1, "key": {raw} }}', "key") == shown


@given(st.integers() | st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_member_changes(value: int | str) -> None:
    assert member(json.dumps({"k": value}), "k") == str(value)


@pytest.mark.parametrize("text", ["canary", "[1]", "", '"canary"', '{"k": canary}', "{" * 5000])
def test_what_is_no_object_is_not_shown(text: str) -> None:
    with pytest.raises(BadReference, match="not a JSON object") as caught:
        member(text, "k")
    assert "canary" not in str(caught.value)


def test_what_is_missing_or_cannot_be_held_is_told() -> None:
    with pytest.raises(BadReference, match="has no key 'k'"):
        member('{"canary": "canary"}', "k")
    with pytest.raises(BadReference, match="NUL character") as caught:
        checked("canary\0")
    assert "canary" not in str(caught.value)
    assert checked("a\nb") == "a\nb"
