"""How the agent logs in to the registry of an image. Pure.

Source: the ECS developer guide (private registry authentication, Amazon ECR images); the format is that of
the ACS ``registryAuthentication``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.controlplane.definition import secret_refs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ECR_IMAGE: Final = re.compile(
    r"([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)/.+"
)


class EcrImage(NamedTuple):
    """The registry of an image in Amazon ECR."""

    account: str
    region: str


def ecr_image(image: str) -> EcrImage | None:
    """Return the registry of an image in Amazon ECR; None for an image of another registry."""
    match = ECR_IMAGE.fullmatch(image)
    return None if match is None else EcrImage(*match.groups())


def authentication(
    container: Mapping[str, Any], kept_here: Collection[str], *, has_execution_role: bool
) -> dict[str, Any] | None:
    """Return what a container's image is pulled with; None for the login of the host.

    Args:
        container: its definition.
        kept_here: secrets whose value control keeps.
        has_execution_role: whether the task gets credentials of an execution role.
    """
    credentials = container.get("repositoryCredentials")
    if credentials:
        return _secret(credentials["credentialsParameter"], kept_here)
    registry = ecr_image(container["image"])
    if registry is None:
        return None
    data = {
        "region": registry.region,
        "registryId": registry.account,
        "useExecutionRole": has_execution_role,
    }
    return {"type": "ecr", "ecrAuthData": data}


def _secret(parameter: str, kept_here: Collection[str]) -> dict[str, Any]:
    ref = secret_refs.parse(parameter)
    data = {"credentialsParameter": parameter, "region": ref.region if ref is not None else ""}
    if parameter in kept_here:
        data["endpoint"] = "control"
    return {"type": "asm", "asmAuthData": data}
