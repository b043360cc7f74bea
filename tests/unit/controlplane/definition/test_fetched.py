from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition.fetched import WhereKept, registry_login, secrets
from agent.model.payload import Secret

ASM = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"
OWN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:db-AbCdEf:key::"
AWS = WhereKept(here=frozenset({OWN}), region="us-east-1", has_execution_role=True)


def test_each_secret_is_told_with_its_keeper_and_region() -> None:
    container = {
        "secrets": [
            {"name": "A", "valueFrom": "/prod/db"},
            {"name": "B", "valueFrom": f"{ASM}:key::"},
            {"name": "C", "valueFrom": OWN},
        ],
        "logConfiguration": {"secretOptions": [{"name": "token", "valueFrom": ASM}]},
    }
    kinds = {"type": "ENVIRONMENT_VARIABLE", "target": "CONTAINER"}
    assert secrets(container, AWS) == [
        Secret(name="A", value_from="/prod/db", region="us-east-1", provider="ssm", **kinds),
        Secret(name="B", value_from=f"{ASM}:key::", region="eu-west-1", provider="asm", **kinds),
        Secret(
            name="C",
            value_from=OWN,
            region="us-east-1",
            provider="asm",
            endpoint="control",
            **kinds,
        ),
        Secret(
            name="token",
            value_from=ASM,
            region="eu-west-1",
            provider="asm",
            type="BOOTSTRAP",
            target="LOG_DRIVER",
        ),
    ]
    assert secrets({}, AWS) == []


@pytest.mark.parametrize(
    ("container", "login"),
    [
        ({"image": "busybox"}, None),
        ({"image": "registry.example/123456789012.dkr.ecr.eu-west-1.amazonaws.com/a"}, None),
        (
            {"image": "busybox", "repositoryCredentials": {"credentialsParameter": ASM}},
            {"credentialsParameter": ASM, "region": "eu-west-1"},
        ),
        (
            {"image": "busybox", "repositoryCredentials": {"credentialsParameter": "login"}},
            {"credentialsParameter": "login", "region": "us-east-1"},
        ),
        (
            {"image": "busybox", "repositoryCredentials": {"credentialsParameter": OWN}},
            {"credentialsParameter": OWN, "region": "us-east-1", "endpoint": "control"},
        ),
        (
            {"image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:v1"},
            {"region": "eu-west-1", "registryId": "123456789012", "useExecutionRole": True},
        ),
    ],
)
def test_which_login_an_image_is_pulled_with(
    container: dict[str, Any], login: dict[str, Any] | None
) -> None:
    told = registry_login(container, AWS)
    if login is None:
        assert told is None
        return
    kind = "ecr" if "registryId" in login else "asm"
    assert told == {"type": kind, f"{kind}AuthData": login}


def test_without_an_execution_role_ecr_is_asked_with_the_hosts_keys() -> None:
    nobody = WhereKept(here=frozenset(), region="us-east-1", has_execution_role=False)
    image = {"image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app"}
    told = registry_login(image, nobody)
    assert told is not None
    assert told["ecrAuthData"]["useExecutionRole"] is False
