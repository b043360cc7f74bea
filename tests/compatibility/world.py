"""An AWS on the loopback that has whatever a definition names: roles, secrets, parameters, files."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.compatibility.definitions import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.aws_stand_in import StandIn

_ALL = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
FILE_VARIABLE = "FROM_FILE"
"""In every environment file."""


class World:
    """Makes things as they are named; whatever is there already stays."""

    def __init__(self, aws: StandIn, logs: Any) -> None:
        self._aws = aws
        self._logs = logs
        """A boto3 client of CloudWatch Logs."""

    def provide(self, definition: Mapping[str, Any]) -> None:
        """Make everything that a definition names."""
        for member in ("taskRoleArn", "executionRoleArn"):
            if definition.get(member):
                self._role(definition[member])
        for reference in _secrets(definition):
            self._secret(reference)
        for container in definition["containerDefinitions"]:
            for file in container.get("environmentFiles", ()):
                self._object(file["value"], f"{FILE_VARIABLE}=1\n".encode())
            self._log_group(container.get("logConfiguration") or {})
            options = (container.get("firelensConfiguration") or {}).get("options", {})
            if options.get("config-file-type") == "s3":
                self._object(options["config-file-value"], b"[SERVICE]\n    Flush 1\n")

    def _log_group(self, log: Mapping[str, Any]) -> None:
        group = log.get("options", {}).get("awslogs-group")
        if group and log["logDriver"] == "awslogs":
            with contextlib.suppress(self._logs.exceptions.ResourceAlreadyExistsException):
                self._logs.create_log_group(logGroupName=group)

    def _client(self, service: str, region: str = REGION) -> Any:
        import boto3  # noqa: PLC0415 - slow to import

        key = self._aws.admin
        return boto3.client(
            service,
            endpoint_url=self._aws.url,
            region_name=region,
            aws_access_key_id=key.key_id,
            aws_secret_access_key=key.secret,
        )

    def _role(self, arn: str) -> None:
        iam = self._client("iam")
        path, _, name = arn.partition(":role")[2].rpartition("/") if "/" in arn else ("", "", arn)
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, Path=f"{path}/", AssumeRolePolicyDocument=_ALL)
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=_ALL)

    def _secret(self, reference: str) -> None:
        parts = reference.split(":")
        if ":secretsmanager:" not in reference:
            region = parts[3] if len(parts) > 5 else REGION
            name = reference.partition(":parameter")[2] or reference
            self._client("ssm", region).put_parameter(
                Name=name if name.count("/") > 1 else name.lstrip("/"),
                Value="value",
                Type="SecureString",
                Overwrite=True,
            )
            return
        client = self._client("secretsmanager", parts[3])
        # With the suffix of its ARN: moto gives each secret another one, and finds this by its name.
        name, key = parts[6], parts[7] if len(parts) > 7 else ""
        kept: dict[str, str] = {"username": "u", "password": "p"}
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            kept = json.loads(client.get_secret_value(SecretId=name)["SecretString"])
        text = json.dumps(kept | ({key: "value"} if key else {}))
        try:
            client.create_secret(Name=name, SecretString=text)
        except client.exceptions.ResourceExistsException:
            client.put_secret_value(SecretId=name, SecretString=text)

    def _object(self, arn: str, content: bytes) -> None:
        bucket, _, key = arn.partition(":::")[2].partition("/")
        s3 = self._client("s3")
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            where = {"LocationConstraint": REGION}
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        s3.put_object(Bucket=bucket, Key=key, Body=content)


def _secrets(definition: Mapping[str, Any]) -> Iterator[str]:
    for container in definition["containerDefinitions"]:
        log = container.get("logConfiguration") or {}
        for secret in (*container.get("secrets", ()), *log.get("secretOptions", ())):
            yield secret["valueFrom"]
        if container.get("repositoryCredentials"):
            yield container["repositoryCredentials"]["credentialsParameter"]
