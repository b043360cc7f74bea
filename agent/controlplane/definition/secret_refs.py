"""What a task definition means by the ``valueFrom`` of a secret, and who keeps it. Pure.

Source: the ECS developer guide ("Pass sensitive data to a container"): the name or ARN of a parameter of
Parameter Store, alone or with ``:version`` or ``:label`` after it, or the ARN of a secret of Secrets
Manager, alone or with ``:json-key:version-stage:version-id`` after it, any of them empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from agent.controlplane.names import Names

PARAMETERS = "ssm"
SECRETS = "secretsmanager"

_ARN = re.compile(r"arn:(aws[a-z-]*):(ssm|secretsmanager):([a-z0-9-]+):([0-9]{12}):(.+)")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a value is."""

    service: str
    """``PARAMETERS`` or ``SECRETS``."""
    name: str
    """Of a parameter: its name, which an ARN leaves the first slash out of. Of a secret: its name as an
    ARN has it, with six characters at its end that AWS added."""
    partition: str = ""
    """This, region and account are empty where only a name is given."""
    region: str = ""
    account: str = ""
    json_key: str = ""
    version_stage: str = ""
    version_id: str = ""
    """Of a parameter: what is behind its name, a version or a label."""

    @property
    def secret_arn(self) -> str:
        """ARN of the secret alone."""
        return (
            f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:secret:{self.name}"
        )


def parse(value_from: str) -> SecretRef | None:
    """Return what a ``valueFrom`` names; None for an ARN of neither service, or a broken one."""
    if not value_from.startswith("arn:"):
        name, _, version = value_from.partition(":")
        return SecretRef(PARAMETERS, name, version_id=version) if name else None
    match = _ARN.fullmatch(value_from)
    if match is None:
        return None
    partition, service, region, account, resource = match.groups()
    if service == PARAMETERS:
        kind, slash, name = resource.partition("/")
        name, _, version = name.partition(":")
        if kind != "parameter" or not slash or not name:
            return None
        return SecretRef(service, name, partition, region, account, version_id=version)
    kind, _, rest = resource.partition(":")
    parts = rest.split(":")
    if kind != "secret" or not parts[0] or len(parts) not in (1, 4):
        return None
    name, json_key, stage, version_id = (*parts, "", "", "")[:4]
    return SecretRef(service, name, partition, region, account, json_key, stage, version_id)


def is_own(ref: SecretRef, names: Names) -> bool:
    """Tell whether an ARN is of this control's own account and region."""
    return (ref.partition, ref.region, ref.account) == (
        names.partition,
        names.region,
        names.account,
    )


def kept_here(
    body: Mapping[str, Any], names: Names, kept_names: Collection[str] = ()
) -> frozenset[str]:
    """Return every ``valueFrom`` of a definition whose value control itself keeps.

    Args:
        body: the definition with the overrides applied.
        names: which account is control's own.
        kept_names: bare names of parameters and secrets that control keeps; others are AWS's.
    """
    return frozenset(
        value_from
        for value_from in values_from(body)
        if (ref := parse(value_from)) is not None
        and (is_own(ref, names) or (not ref.account and ref.name in kept_names))
    )


def bare_names(body: Mapping[str, Any]) -> list[str]:
    """Return the parameters and secrets of a definition that are given by name alone."""
    return sorted(
        {
            ref.name
            for value_from in values_from(body)
            if (ref := parse(value_from)) is not None and not ref.account
        }
    )


def values_from(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield every ``valueFrom`` of a definition, and the secrets of its registries."""
    for container in body.get("containerDefinitions", ()):
        log = container.get("logConfiguration") or {}
        for item in (*container.get("secrets", ()), *log.get("secretOptions", ())):
            yield item["valueFrom"]
        parameter = (container.get("repositoryCredentials") or {}).get("credentialsParameter")
        if parameter:
            yield parameter
