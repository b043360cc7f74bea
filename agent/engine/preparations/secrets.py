"""Secrets of containers: fetched from where they are kept, and given in the create body alone.

Nothing is written anywhere: values are in memory from the fetch to the create call. Whatever is wrong,
the text names the secret and never its value.

Source: Amazon ECS agent 1.105.1, ``taskresource/ssmsecret`` and ``taskresource/asmsecret`` (texts of
failures). Ours fetches equal references once, matches parameters by name and ARN, and waits for
credentials without looking again and again.

Tests: ``tests/unit/engine/preparations/test_secrets.py``, ``tests/integration/e2e/test_secrets.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from agent.engine.preparations.contract import Provision
from agent.engine.preparations.execution_role import ask_execution_role, execution_credentials
from agent.engine.preparations.secret_references import (
    BadReference,
    Keeper,
    Reference,
    checked,
    member,
    wanted_secrets,
)
from agent.engine.preparations.together import together, unfetched
from agent.errors import AwsFailure, AwsRefused, PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.engine.preparations.contract import HostAccess
    from agent.engine.preparations.secret_references import WantedSecret
    from agent.model.lookups import AskRole
    from agent.model.payload import TaskPayload

LIMIT_S: Final = 60.0
"""For all secrets of a task together, once credentials are there."""

Values = dict[Reference, str]
Call = Callable[[], Awaitable[Values]]


class SecretPreparation:
    """Secrets; see ``contract.Preparation``."""

    name = "secrets"
    doing = "fetch secrets"
    is_remote = True

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell whether a container has secrets."""
        return any(container.secrets for container in payload.containers)

    def check(self, payload: TaskPayload) -> None:
        """Raise ``PayloadError`` for a secret that this agent cannot give."""
        _wanted(payload)

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Fetch every value, each once."""
        wanted = _wanted(payload)
        values = await _fetch(payload, dict.fromkeys(w.reference for w in wanted), access)
        environment: dict[str, dict[str, str]] = {}
        options: dict[str, dict[str, str]] = {}
        for secret in wanted:
            texts = options if secret.for_log_driver else environment
            texts.setdefault(secret.container, {})[secret.variable] = _value(secret, values)
        return Provision(secret_environment=environment, log_options=options)

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Leave everything: nothing was made."""


def _wanted(payload: TaskPayload) -> list[WantedSecret]:
    try:
        return wanted_secrets(payload)
    except BadReference as error:
        raise PayloadError(reasons.resource_unusable(payload.arn, str(error))) from None


def _value(secret: WantedSecret, values: Values) -> str:
    value = values[secret.reference]
    try:
        return checked(member(value, secret.json_key) if secret.json_key else value)
    except BadReference as error:
        kept = secret.reference
        where = _of_secrets_manager(kept.region) if kept.keeper is Keeper.ASM else ""
        raise unfetched(f"{where}{secret.shown}: {error}") from None


async def _fetch(
    payload: TaskPayload, references: Iterable[Reference], access: HostAccess
) -> Values:
    """Fetch the values, a few calls at once; the first failure of the first kind is raised."""
    by_keeper: dict[Keeper, list[Reference]] = {}
    for reference in references:
        by_keeper.setdefault(reference.keeper, []).append(reference)
    role = ask_execution_role(payload, access.credentials)
    for keeper in (Keeper.SSM, Keeper.ASM):
        if keeper in by_keeper:
            await _await_credentials(keeper, payload, access)
    calls: list[Call] = [
        *_of_control(by_keeper.get(Keeper.CONTROL, []), payload, access),
        *_of_parameter_store(by_keeper.get(Keeper.SSM, []), role, access),
        *(partial(_of_manager, r, role, access) for r in by_keeper.get(Keeper.ASM, [])),
    ]
    late = f"the task's secrets did not come within {LIMIT_S:g} s"
    found = await together(calls, limit_s=LIMIT_S, late=late)
    return {reference: value for values in found for reference, value in values.items()}


async def _await_credentials(keeper: Keeper, payload: TaskPayload, access: HostAccess) -> None:
    try:
        await execution_credentials(payload, access.credentials)
    except PayloadError as error:
        raise PayloadError(f"{keeper} secret resource: {error}") from None


def _of_control(
    references: list[Reference], payload: TaskPayload, access: HostAccess
) -> list[Call]:
    async def ask() -> Values:
        found = await access.control_secrets(payload.arn, [r.name for r in references])
        missing = [r.name for r in references if r.name not in found]
        if missing:
            raise unfetched(f"control did not send the secrets {', '.join(missing)}")
        return {r: found[r.name] for r in references}

    return [ask] if references else []


def _of_parameter_store(
    references: list[Reference], role: AskRole, access: HostAccess
) -> list[Call]:
    by_region: dict[str, list[Reference]] = {}
    for reference in references:
        by_region.setdefault(reference.region, []).append(reference)
    return [
        partial(_parameters, region, those, role, access) for region, those in by_region.items()
    ]


async def _parameters(
    region: str, references: list[Reference], role: AskRole, access: HostAccess
) -> Values:
    where = f"fetching secret data from SSM Parameter Store in {region or 'the region of the host'}"
    try:
        found = await access.aws.parameters(role, region, [r.name for r in references])
    except AwsFailure as error:
        raise unfetched(f"{where}: {error}") from None
    unknown = [r.name for r in references if r.name not in found]
    if unknown:
        raise unfetched(f"{where}: invalid parameters: {','.join(unknown)}")
    return {r: found[r.name] for r in references}


async def _of_manager(reference: Reference, role: AskRole, access: HostAccess) -> Values:
    where = _of_secrets_manager(reference.region)
    try:
        text = await access.aws.secret(
            role,
            reference.region,
            reference.name,
            stage=reference.stage,
            version=reference.version,
        )
    except AwsRefused as error:
        if error.code != "ResourceNotFoundException":
            raise unfetched(f"{where}secret {reference.name}: {error}") from None
        raise unfetched(
            f"{where}ResourceNotFoundException: The task can't retrieve the secret with ARN "
            f"'{reference.name}' from AWS Secrets Manager. Check that the secret ARN is correct: "
            f"{error}"
        ) from None
    except AwsFailure as error:
        raise unfetched(f"{where}secret {reference.name}: {error}") from None
    if text is None:
        raise unfetched(
            f"{where}secret {reference.name}: its value is binary, which no variable can hold; "
            "store it as text"
        )
    return {reference: text}


def _of_secrets_manager(region: str) -> str:
    return f"fetching secret data from AWS Secrets Manager in region {region}: "
