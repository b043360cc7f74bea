from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition import fetched_rules
from agent.controlplane.front.errors import ClientException

ASM = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"
SSM = "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db"


def secret(name: str, value_from: str = "p") -> dict[str, str]:
    return {"name": name, "valueFrom": value_from}


def file(value: str, kind: str = "s3") -> dict[str, str]:
    return {"type": kind, "value": value}


@pytest.mark.parametrize(
    "container",
    [
        {},
        {"secrets": [secret("A"), secret("B", ASM), secret("C", f"{ASM}:k::"), secret("D", SSM)]},
        {"environment": [{"name": "A", "value": "1"}], "secrets": [secret("B", "/prod/db:3")]},
        {"environmentFiles": [file("arn:aws:s3:::b/dir/a b.env")] * 10},
        {"logConfiguration": {"options": {"url": "u"}, "secretOptions": [secret("token", ASM)]}},
        {"repositoryCredentials": {"credentialsParameter": ASM}},
        {"repositoryCredentials": {"credentialsParameter": "login"}},
    ],
)
def test_what_amazon_takes_is_taken(container: dict[str, Any]) -> None:
    fetched_rules.check({"name": "web", **container})


@pytest.mark.parametrize(
    ("container", "text"),
    [
        ({"secrets": [secret("")]}, "must be that of an environment variable"),
        ({"secrets": [secret("A=B")]}, "must be that of an environment variable"),
        ({"secrets": [secret("A"), secret("A", ASM)]}, "must be unique .* such as 'A'"),
        (
            {"environment": [{"name": "A"}], "secrets": [secret("A")]},
            "not shared with any new or existing environment variables",
        ),
        ({"secrets": [secret("A", "")]}, "valueFrom of secret 'A' must be"),
        ({"secrets": [secret("A", "arn:aws:s3:::b/k")]}, "valueFrom of secret 'A' must be"),
        ({"secrets": [secret("A", f"{ASM}:k")]}, "valueFrom of secret 'A' must be"),
        (
            {"logConfiguration": {"secretOptions": [secret("t", "arn:x")]}},
            "valueFrom of secretOptions 't' must be",
        ),
        (
            {"logConfiguration": {"options": {"t": "1"}, "secretOptions": [secret("t")]}},
            "log option 't' is given twice",
        ),
        ({"environmentFiles": [file("arn:aws:s3:::b/k.env")] * 11}, "At most 10"),
        ({"environmentFiles": [file("arn:aws:s3:::b/k.env", "http")]}, "must be s3"),
        ({"environmentFiles": [file("s3://b/k.env")]}, "must be the ARN of an object"),
        ({"environmentFiles": [file("arn:aws:s3:::b/k.txt")]}, "must end with .env"),
        ({"repositoryCredentials": {"credentialsParameter": SSM}}, "a secret of Secrets Manager"),
        ({"repositoryCredentials": {"credentialsParameter": ""}}, "a secret of Secrets Manager"),
    ],
)
def test_what_amazon_refuses_is_refused(container: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientException, match=text):
        fetched_rules.check({"name": "web", **container})
