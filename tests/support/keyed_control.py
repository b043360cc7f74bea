"""A control endpoint that requires keys, its first key, and users with policies."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from agent.controlplane.audit.files import AuditSettings
from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

REGION, ACCOUNT = "us-east-1", "000000000000"
ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"
TASKS_SERVICE = "ecs-tasks.amazonaws.com"
TRUSTS_ACCOUNT = {
    "Effect": "Allow",
    "Action": "sts:AssumeRole",
    "Principal": {"AWS": ROOT_ARN, "Service": TASKS_SERVICE},
}
"""The trust policy of a role that everybody here may have."""


class Keys(NamedTuple):
    """What signs a call."""

    id: str
    secret: str
    token: str | None = None


class KeyedControl:
    """A running control endpoint, called with AWS's SDK."""

    def __init__(self, endpoint: Endpoint, root: Keys, directory: Path) -> None:
        self.endpoint = endpoint
        self.root = root
        self.directory = directory
        self._clients: dict[Any, Any] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, **settings: Any) -> AsyncIterator[KeyedControl]:
        """Run one until the end of the block."""
        file = directory / "credentials"
        settings.setdefault("audit", AuditSettings(directory / "audit" / "audit.jsonl"))
        async with control_endpoint(directory, keys_file=file, **settings) as endpoint:
            parser = configparser.ConfigParser()
            parser.read(file)
            first = parser["default"]
            root = Keys(first["aws_access_key_id"], first["aws_secret_access_key"])
            control = cls(endpoint, root, directory)
            try:
                yield control
            finally:
                for client in control._clients.values():
                    client.close()

    def client(self, service: str, keys: Keys | None = None, **config: Any) -> Any:
        """A client of a service; with the first key if none is given."""
        signed = keys or self.root
        place = (service, signed, tuple(sorted(config)))
        if place not in self._clients:
            self._clients[place] = boto3.client(
                service,
                endpoint_url=self.endpoint.url,
                region_name=REGION,
                aws_access_key_id=signed.id,
                aws_secret_access_key=signed.secret,
                aws_session_token=signed.token,
                config=Config(
                    retries={"total_max_attempts": 1}, inject_host_prefix=False, **config
                ),
            )
        return self._clients[place]

    async def call(
        self, service: str, operation: str, keys: Keys | None = None, /, **request: Any
    ) -> dict[str, Any]:
        """Make a call, by boto3's name of it."""
        client = await asyncio.to_thread(self.client, service, keys)
        method = getattr(client, operation)
        answer: dict[str, Any] = await asyncio.to_thread(lambda: method(**request))
        answer.pop("ResponseMetadata", None)
        return answer

    async def refused(
        self, service: str, operation: str, keys: Keys | None = None, /, **request: Any
    ) -> tuple[str, str]:
        """Make a call that must fail; return code and text of its error."""
        with pytest.raises(ClientError) as caught:
            await self.call(service, operation, keys, **request)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    async def user(self, name: str, *statements: Mapping[str, Any]) -> Keys:
        """Make a user with one policy, and return its keys."""
        await self.call("iam", "create_user", UserName=name)
        if statements:
            await self.allow(name, *statements)
        made = (await self.call("iam", "create_access_key", UserName=name))["AccessKey"]
        return Keys(made["AccessKeyId"], made["SecretAccessKey"])

    async def allow(self, name: str, *statements: Mapping[str, Any]) -> None:
        """Replace the policy of a user."""
        await self.call(
            "iam",
            "put_user_policy",
            UserName=name,
            PolicyName="test",
            PolicyDocument=document(*statements),
        )

    async def role(
        self, name: str, trust: Mapping[str, Any], *statements: Mapping[str, Any]
    ) -> str:
        """Make a role with one policy, and return its ARN."""
        made = await self.call(
            "iam", "create_role", RoleName=name, AssumeRolePolicyDocument=document(trust)
        )
        if statements:
            await self.call(
                "iam",
                "put_role_policy",
                RoleName=name,
                PolicyName="test",
                PolicyDocument=document(*statements),
            )
        arn: str = made["Role"]["Arn"]
        return arn

    async def session(self, role: str, keys: Keys | None = None, **more: Any) -> Keys:
        """Assume a role."""
        answer = await self.call(
            "sts", "assume_role", keys, RoleArn=role, RoleSessionName="test", **more
        )
        given = answer["Credentials"]
        return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def document(*statements: Mapping[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str | list[str], resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    """A statement; ``more`` are its other elements."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: str | list[str], resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    """A statement that denies."""
    return allow(action, resource, **more) | {"Effect": "Deny"}


def ecs_arn(rest: str) -> str:
    """An ARN of the ECS API."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:{rest}"
