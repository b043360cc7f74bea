"""What the agent is told of secrets and logins, which it fetches itself. Pure.

Those that control keeps are marked ``control``; all others are AWS's, in the region of their ARN, or in
control's own if a name is all there is, as on Amazon ECS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.roles.needed import ecr_image
from agent.model import ids
from agent.model.payload import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL: Final = "control"


@dataclass(frozen=True, slots=True)
class WhereKept:
    """Where the secrets of a task are, and with whose keys the agent asks for them."""

    here: frozenset[str]
    """Each ``valueFrom`` whose value control keeps."""
    region: str
    """Control's own."""
    has_execution_role: bool
    """Whether the agent gets credentials of one."""


def secrets(container: Mapping[str, Any], kept: WhereKept) -> list[Secret]:
    """Return the secrets of a container, and those of its log driver."""
    log = container.get("logConfiguration") or {}
    return [
        _secret(item, target, kept)
        for target, items in (
            ("CONTAINER", container.get("secrets", ())),
            ("LOG_DRIVER", log.get("secretOptions", ())),
        )
        for item in items
    ]


def registry_login(container: Mapping[str, Any], kept: WhereKept) -> dict[str, Any] | None:
    """Return the login that a container's image is pulled with; None for that of the host.

    Without an execution role, ECR is asked with the host's keys.
    """
    parameter = (container.get("repositoryCredentials") or {}).get("credentialsParameter")
    if parameter:
        data = {"credentialsParameter": parameter, "region": ids.region(parameter) or kept.region}
        if parameter in kept.here:
            data["endpoint"] = CONTROL
        return {"type": "asm", "asmAuthData": data}
    registry = ecr_image(container["image"])
    if registry is None:
        return None
    return {
        "type": "ecr",
        "ecrAuthData": {
            "region": registry.region,
            "registryId": registry.account,
            "useExecutionRole": kept.has_execution_role,
        },
    }


def _secret(item: Mapping[str, Any], target: str, kept: WhereKept) -> Secret:
    value_from = item["valueFrom"]
    return Secret(
        name=item["name"],
        value_from=value_from,
        region=ids.region(value_from) or kept.region,
        type="ENVIRONMENT_VARIABLE" if target == "CONTAINER" else "BOOTSTRAP",
        provider="asm" if ":secretsmanager:" in value_from else "ssm",
        target=target,
        endpoint=CONTROL if value_from in kept.here else None,
    )
