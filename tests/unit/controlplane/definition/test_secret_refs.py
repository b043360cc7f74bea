from __future__ import annotations

import pytest

from agent.controlplane.definition.secret_refs import SecretRef, bare_names, kept_here, parse
from agent.controlplane.names import Names

NAMES = Names("eu-west-1", "111122223333")
SSM = "arn:aws:ssm:eu-west-1:111122223333:parameter/"
ASM = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:"


def ref(service: str, name: str, **more: str) -> SecretRef:
    return SecretRef(service, name, "aws", "eu-west-1", "111122223333", **more)


@pytest.mark.parametrize(
    ("value_from", "found"),
    [
        ("db-password", SecretRef("ssm", "db-password")),
        ("/app/db", SecretRef("ssm", "/app/db")),
        ("db:3", SecretRef("ssm", "db", version_id="3")),
        (":3", None),
        (f"{SSM}db", ref("ssm", "db")),
        (f"{SSM}app/db:live", ref("ssm", "app/db", version_id="live")),
        (f"{SSM}app/db", ref("ssm", "app/db")),
        (f"{ASM}db-AbCdEf", ref("secretsmanager", "db-AbCdEf")),
        (f"{ASM}app/db-AbCdEf", ref("secretsmanager", "app/db-AbCdEf")),
        (f"{ASM}db-AbCdEf:user::", ref("secretsmanager", "db-AbCdEf", json_key="user")),
        (
            f"{ASM}db-AbCdEf:user:AWSPREVIOUS:v1",
            ref(
                "secretsmanager",
                "db-AbCdEf",
                json_key="user",
                version_stage="AWSPREVIOUS",
                version_id="v1",
            ),
        ),
        (f"{ASM}db-AbCdEf:user", None),
        (f"{ASM}db-AbCdEf:a:b:c:d", None),
        (f"{ASM}", None),
        (SSM, None),
        ("arn:aws:ssm:eu-west-1:111122223333:document/x", None),
        ("arn:aws:s3:::bucket/key", None),
        ("arn:", None),
    ],
)
def test_what_a_value_from_names(value_from: str, found: SecretRef | None) -> None:
    assert parse(value_from) == found


def test_what_control_keeps_is_of_its_own_account_or_a_name_that_it_knows() -> None:
    theirs = f"{ASM}db-AbCdEf".replace("111122223333", "999999999999")
    elsewhere = f"{SSM}db".replace("eu-west-1", "us-east-1")
    body = {
        "containerDefinitions": [
            {
                "name": "a",
                "secrets": [
                    {"name": "A", "valueFrom": f"{SSM}db"},
                    {"name": "B", "valueFrom": "known:2"},
                    {"name": "C", "valueFrom": "unknown"},
                    {"name": "D", "valueFrom": theirs},
                    {"name": "E", "valueFrom": elsewhere},
                ],
            },
            {
                "name": "b",
                "logConfiguration": {
                    "logDriver": "splunk",
                    "secretOptions": [{"name": "token", "valueFrom": f"{ASM}x-AbCdEf:k::"}],
                },
                "repositoryCredentials": {"credentialsParameter": f"{ASM}reg-AbCdEf"},
            },
        ]
    }
    assert kept_here(body, NAMES, {"known"}) == {
        f"{SSM}db",
        "known:2",
        f"{ASM}x-AbCdEf:k::",
        f"{ASM}reg-AbCdEf",
    }
    assert bare_names(body) == ["known", "unknown"]
    assert kept_here({"containerDefinitions": [{"name": "a"}]}, NAMES) == frozenset()
