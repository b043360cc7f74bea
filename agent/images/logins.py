"""With which user name and password an image is pulled: the host's, a secret's, or a token of ECR.

``registryAuthentication`` of a container says which; without it, what ``ECS_ENGINE_AUTH_DATA`` has for
the image counts. Touches AWS through ``RegistryServices``. Fails with ``PayloadError``, whose name is that
of ECS and which is never tried again, or with ``CredentialsAwaited``. No text shows a password.

Source: Amazon ECS agent 1.105.1, ``agent/engine`` and ``agent/asm`` (who counts when, texts).

Tests: ``tests/unit/images/test_logins.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from agent.errors import AwsFailure, PayloadError
from agent.images.token_cache import TokenCache
from agent.model import ids, reasons
from agent.runtime.protocol import RegistryAuth

if TYPE_CHECKING:
    from agent.images.auth import Credentials
    from agent.images.reference import Reference
    from agent.images.token_cache import Token
    from agent.model.lookups import AskControl, AskRole
    from agent.model.payload import Container

_DATA: Final = {"asm": "asmAuthData", "ecr": "ecrAuthData"}
_object: Final = msgspec.json.Decoder(dict[str, Any])


class RegistryServices(Protocol):
    """Where logins are kept; ``fetching.TaskServices``. Raises ``AwsFailure`` or what ``role`` raises."""

    async def secret(
        self, role: AskRole, region: str, secret_id: str, *, stage: str = "", version: str = ""
    ) -> str | None:
        """Return the text of a secret; None for one that is binary."""

    async def registry_token(
        self, role: AskRole | None, region: str, registry_id: str, *, endpoint: str = ""
    ) -> Token:
        """Return a login to ECR registries; without a role, with this host's own keys."""


@dataclass(frozen=True, slots=True)
class ExecutionRole:
    """The execution role of the task that wants an image."""

    name: str
    """ARN of the role, or whatever else tells it from others."""
    ask: AskRole
    """Gives its newest credentials; raises ``PayloadError`` for a task that has no such role."""
    task_arn: str = ""


class Login(Protocol):
    """A login for one pull."""

    @property
    def key(self) -> str:
        """What it is of: pulls of one image with the same key are one pull. Shows no password."""

    async def auth(self) -> RegistryAuth | None:
        """Return user name and password; None to pull without any."""

    def refused(self) -> None:
        """Note that the registry refused it."""


def check(container: Container) -> None:
    """Return when a container's login can be fetched at all; raises ``PayloadError``. Pure."""
    _read(container)


class RegistryLogins:
    """Finds the login for each pull; one object serves all tasks."""

    def __init__(
        self,
        static: Credentials,
        services: RegistryServices | None = None,
        control: AskControl | None = None,
    ) -> None:
        """``static`` are the host's own; without ``services`` and ``control``, there are no others."""
        self._static = static
        self._services = services
        self._control = control
        self._tokens = TokenCache()

    def find(self, container: Container, reference: Reference, role: ExecutionRole | None) -> Login:
        """Return the login of a container's image.

        Raises:
            PayloadError: the order names one that this agent cannot get.
        """
        kind, data = _read(container)
        static = self._static.find(reference)
        if kind == "asm" and data.get("endpoint") == "control" and self._control is not None:
            return _SecretLogin(data, _needed(kind, role), _OfControl(self._control))
        if kind and self._services is None:
            raise _failure(kind, f"logins of type {kind} cannot be fetched by this agent")
        if kind == "asm" and self._services is not None:
            return _SecretLogin(data, _needed(kind, role), _OfAws(self._services))
        uses_role = bool(data.get("useExecutionRole"))
        # The host's own login to that registry needs no keys of AWS, as it always did.
        if kind == "ecr" and self._services is not None and (uses_role or static is None):
            chosen = _needed(kind, role) if uses_role else None
            return _TokenLogin(data, chosen, self._services, self._tokens)
        return _StaticLogin(static)

    def of_host(self, reference: Reference) -> RegistryAuth | None:
        """Return what the operator set for a registry; None to ask it without a login."""
        return self._static.find(reference)

    async def close(self) -> None:
        """End all requests for tokens."""
        await self._tokens.close()


def _read(container: Container) -> tuple[str, Mapping[str, Any]]:
    """Return type and data of the login that a container asks for; empty for none."""
    asked = container.registry_authentication
    if not asked:
        return "", {}
    kind = asked.get("type")
    data = asked.get(_DATA.get(str(kind), "")) or {}
    if kind not in _DATA or not isinstance(data, Mapping):
        text = f"registryAuthentication of container {container.name}: type {kind!r} is not known"
        raise PayloadError(text, name=reasons.CANNOT_PULL)
    if kind == "asm" and not data.get("credentialsParameter"):
        text = f"registryAuthentication of container {container.name} names no secret"
        raise PayloadError(text, name=reasons.CANNOT_PULL_AUTH)
    return str(kind), data


def _needed(kind: str, role: ExecutionRole | None) -> ExecutionRole:
    if role is None:
        raise _failure(kind, "unable to find execution role credentials")
    return role


class _StaticLogin:
    key = ""

    def __init__(self, auth: RegistryAuth | None) -> None:
        self._auth = auth

    async def auth(self) -> RegistryAuth | None:
        return self._auth

    def refused(self) -> None:
        """Only the operator has another one."""


class _Keeper(Protocol):
    """Who keeps the secret of a login."""

    async def text(self, role: ExecutionRole, region: str, secret: str) -> str | None:
        """Return it; None for one that is binary."""


class _OfAws:
    def __init__(self, services: RegistryServices) -> None:
        self._services = services

    async def text(self, role: ExecutionRole, region: str, secret: str) -> str | None:
        return await self._services.secret(role.ask, region, secret)


class _OfControl:
    def __init__(self, ask: AskControl) -> None:
        self._ask = ask

    async def text(self, role: ExecutionRole, _region: str, secret: str) -> str | None:
        return (await self._ask(role.task_arn, [secret])).get(secret)


class _SecretLogin:
    """A secret with ``username`` and ``password``; fetched once for a pull."""

    def __init__(self, data: Mapping[str, Any], role: ExecutionRole, keeper: _Keeper) -> None:
        self._secret = str(data["credentialsParameter"])
        self._region = ids.region(self._secret) or str(data.get("region") or "")
        self._role = role
        self._keeper = keeper
        self._fetched: RegistryAuth | None = None
        whose = "control" if isinstance(keeper, _OfControl) else role.name
        self.key = f"asm {self._secret} {self._region} {whose}"

    async def auth(self) -> RegistryAuth | None:
        if self._fetched is None:
            self._fetched = await self._fetch()
        return self._fetched

    def refused(self) -> None:
        """Nothing is kept for the next pull."""

    async def _fetch(self) -> RegistryAuth:
        where = f"asm fetching secret from the service for {self._secret}"
        try:
            text = await self._keeper.text(self._role, self._region, self._secret)
        except AwsFailure as error:
            raise _failure("asm", f"{where}: {error}") from None
        except PayloadError as error:
            raise _failure("asm", f"{where}: {error}") from None
        return _login_in(text, where)


class _TokenLogin:
    """A token of ECR, which many pulls share."""

    def __init__(
        self,
        data: Mapping[str, Any],
        role: ExecutionRole | None,
        services: RegistryServices,
        tokens: TokenCache,
    ) -> None:
        self._region, self._registry, self._endpoint = (
            str(data.get(name) or "") for name in ("region", "registryId", "endpointOverride")
        )
        self._role = role
        self._services = services
        self._tokens = tokens
        self._used: RegistryAuth | None = None
        whose = role.name if role else "the host"
        self.key = f"ecr {self._registry} {self._region} {self._endpoint} {whose}"

    async def auth(self) -> RegistryAuth | None:
        self._used = await self._tokens.get(self.key, self._request)
        return self._used

    def refused(self) -> None:
        if self._used is not None:
            self._tokens.drop(self.key, self._used)

    async def _request(self) -> Token:
        role = self._role.ask if self._role else None
        try:
            return await self._services.registry_token(
                role, self._region, self._registry, endpoint=self._endpoint
            )
        except AwsFailure as error:
            raise _failure("ecr", str(error)) from None
        except PayloadError as error:
            raise _failure("ecr", f"engine ecr credentials: not found: {error}") from None


def _login_in(text: str | None, where: str) -> RegistryAuth:
    """Read the JSON of a secret; no error shows what is in it."""
    if not text:
        raise _failure("asm", f"{where}: asm fetching authorization data: empty secrets value")
    try:
        fields = _object.decode(text)
    except (ValueError, RecursionError):
        raise _failure(
            "asm",
            f"{where}: asm fetching authorization data: unable to unmarshal secret value; it must "
            'be JSON: {"username": ..., "password": ...}',
        ) from None
    values = []
    for name in ("username", "password"):
        value = fields.get(name)
        if not isinstance(value, str) or not value:
            told = f"asm fetching {name}: AuthorizationData is malformed, empty field"
            raise _failure("asm", f"{where}: {told}")
        values.append(value)
    return RegistryAuth(username=values[0], password=values[1])


def _failure(kind: str, text: str) -> PayloadError:
    name = reasons.CANNOT_PULL_ECR if kind == "ecr" else reasons.CANNOT_PULL_AUTH
    return PayloadError(text, name=name)
