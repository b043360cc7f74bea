"""Rules for what the agent fetches for a container: secrets, environment files, logins. Pure.

Source: the Amazon ECS API reference (Secret, EnvironmentFile, RepositoryCredentials) and the developer
guide; error texts are those of the service if known.

Tests: ``tests/unit/controlplane/definition/test_fetched_rules.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from agent.controlplane.definition import secret_refs
from agent.controlplane.front.errors import ClientException

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES_LIMIT: Final = 10
"""Most environment files of a container."""
_FILE: Final = re.compile(r"arn:[a-z-]+:s3:::[^/]+/.+\.env", re.DOTALL)


def check(container: Mapping[str, Any]) -> None:
    """Check what a container has fetched for it.

    Raises:
        ClientException: a rule is broken; the text names the container.
    """
    check_secrets(container)
    log = container.get("logConfiguration") or {}
    for option in log.get("secretOptions", ()):
        if option.get("name") in (log.get("options") or {}):
            _refuse(container, f"The log option '{option['name']}' is given twice.")
        _check_value_from(container, f"secretOptions '{option.get('name', '')}'", option)
    check_files(container)
    login = container.get("repositoryCredentials")
    if login:
        parameter = login.get("credentialsParameter") or ""
        found = secret_refs.parse(parameter) if parameter.startswith("arn:") else None
        named = bool(parameter) and not parameter.startswith("arn:")
        if not named and (found is None or found.service != secret_refs.SECRETS):
            _refuse(
                container,
                "repositoryCredentials.credentialsParameter must be the name or ARN of a secret of "
                "Secrets Manager.",
            )


def check_files(container: Mapping[str, Any]) -> None:
    """Check the environment files, which a run can override; raises ``ClientException``."""
    files = container.get("environmentFiles") or ()
    if len(files) > FILES_LIMIT:
        _refuse(container, f"At most {FILES_LIMIT} environment files can be given.")
    for file in files:
        if file.get("type") != "s3":
            _refuse(container, "The type of an environment file must be s3.")
        if not _FILE.fullmatch(file.get("value") or ""):
            _refuse(
                container,
                "The value of an environment file must be the ARN of an object of Amazon S3, and its "
                "name must end with .env.",
            )


def check_secrets(container: Mapping[str, Any]) -> None:
    """Check the secrets against the variables, which a run can override; raises ``ClientException``."""
    used = {variable.get("name") for variable in container.get("environment") or ()}
    for secret in container.get("secrets") or ():
        name = secret.get("name") or ""
        if not name or "=" in name or "\0" in name:
            _refuse(container, "The name of a secret must be that of an environment variable.")
        if name in used:
            raise ClientException(
                "The secret name must be unique and not shared with any new or existing environment "
                f"variables set on the container, such as '{name}'."
            )
        used.add(name)
        _check_value_from(container, f"secret '{name}'", secret)


def _check_value_from(container: Mapping[str, Any], what: str, secret: Mapping[str, Any]) -> None:
    value_from = secret.get("valueFrom") or ""
    if not value_from or secret_refs.parse(value_from) is None:
        _refuse(
            container,
            f"valueFrom of {what} must be the name or ARN of a parameter of Parameter Store, or the "
            "ARN of a secret of Secrets Manager, alone or with "
            "':json-key:version-stage:version-id' after it.",
        )


def _refuse(container: Mapping[str, Any], text: str) -> NoReturn:
    raise ClientException(f"Invalid setting for container '{container.get('name', '')}'. {text}")
