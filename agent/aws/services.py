"""The services of AWS that task definitions name, each in any region and with anybody's keys.

Uses the network. Raises ``AwsRefused``, ``AwsUnavailable`` and what the source of keys raises. Each
endpoint has a bounded number of calls under way, so that one that hangs holds up no other.

Tests: ``tests/unit/aws/test_services.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yarl import URL

from agent.aws import parameter_store, registry_tokens, secrets_manager
from agent.aws.api import JsonApi
from agent.aws.cloud import open_access
from agent.aws.object_store import ObjectStore
from agent.aws.places import find_region, is_region, service_url
from agent.aws.role_keys import RoleKeys
from agent.aws.secrets_manager import SecretVersion
from agent.aws.signing import Signer
from agent.errors import AwsRefused, ConfigError, leaves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.aws.cloud import Access
    from agent.aws.keys import KeySource
    from agent.aws.registry_tokens import RegistryToken
    from agent.config import Settings
    from agent.model.lookups import AskRole

ATTEMPTS: Final = 5
ATTEMPT_S: Final = 6.0
"""Limit for one attempt at a small answer. Source: Amazon ECS agent 1.105.1 (5 s for ECR)."""
FIRST_WAIT_S: Final = 0.5
OBJECT_ATTEMPTS: Final = 3
OBJECT_ATTEMPT_S: Final = 9.0
"""Three of them, with the waits between, fit into the 30 s that Amazon's agent gives a download."""
AT_ONCE: Final = 16
"""Calls under way at one endpoint; the rest waits for its turn."""

ANY_REGION: Final = "us-east-1"
"""Where a bucket is asked for whose region nobody names: S3 tells where it is."""

SSM: Final = "ssm"
SECRETS_MANAGER: Final = "secretsmanager"
S3: Final = "s3"
ECR: Final = "ecr"
_HOST_NAMES: Final = {ECR: "api.ecr"}
_FIPS_HOST_NAMES: Final = {ECR: "ecr"}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the services are; what the settings name wins over the region's endpoints."""

    overrides: Mapping[str, str]
    """URL by service; empty where the region has its own."""
    fips: bool = False

    def url(self, service: str, region: str) -> URL:
        """Return the endpoint of a service in a region. Pure."""
        override = self.overrides.get(service, "")
        if override:
            return URL(override)
        names = _FIPS_HOST_NAMES if self.fips else _HOST_NAMES
        return service_url(names.get(service, service), region, fips=self.fips)

    @classmethod
    def of(cls, settings: Settings, *, fips: bool) -> Endpoints:
        """Return the endpoints that the settings name."""
        own = {
            SSM: settings.ssm_endpoint_url,
            SECRETS_MANAGER: settings.secrets_manager_endpoint_url,
            S3: settings.s3_endpoint_url,
            ECR: settings.ecr_endpoint_url,
        }
        return cls({name: url or settings.aws_endpoint_url for name, url in own.items()}, fips)


class Services:
    """Calls for tasks. An empty region stands for this host's own."""

    def __init__(self, access: Access, endpoints: Endpoints, settings: Settings) -> None:
        self._access = access
        self._endpoints = endpoints
        self._settings = settings
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._region = ""
        """This host's own, once it is known."""

    async def parameters(self, role: AskRole, region: str, names: list[str]) -> dict[str, str]:
        """Return the decrypted values of parameters by the names asked for; unknown ones are missing.

        Args:
            role: whose keys to sign with.
            region: where the parameters are.
            names: names or ARNs, any number of them.
        """
        api = await self._api(SSM, parameter_store.TARGET, RoleKeys(role), region)

        async def some(batch: list[str]) -> dict[str, str]:
            async with self._turn(api.endpoint):
                return await parameter_store.parameters(
                    api, batch, attempts=ATTEMPTS, limit_s=ATTEMPT_S
                )

        try:
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(some(batch)) for batch in parameter_store.batches(names)]
        except BaseExceptionGroup as failures:
            raise next(leaves(failures)) from None
        return {name: value for call in calls for name, value in call.result().items()}

    async def secret(
        self, role: AskRole, region: str, secret_id: str, *, stage: str = "", version: str = ""
    ) -> str | None:
        """Return the text of a secret of Secrets Manager; None for one that is binary.

        ``stage`` and ``version`` choose a value of it; the current one if both are empty.
        """
        wanted = SecretVersion(secret_id=secret_id, stage=stage, version=version)
        api = await self._api(SECRETS_MANAGER, secrets_manager.TARGET, RoleKeys(role), region)
        async with self._turn(api.endpoint):
            return await secrets_manager.secret_text(
                api, wanted, attempts=ATTEMPTS, limit_s=ATTEMPT_S
            )

    async def object(
        self, role: AskRole, region: str, bucket: str, key: str, *, limit_bytes: int
    ) -> bytes:
        """Return an object of S3 that is no larger than ``limit_bytes``."""
        store = ObjectStore(
            self._access.http,
            RoleKeys(role),
            lambda where: Signer(where, S3, self._access.clock),
            lambda where: self._endpoints.url(S3, where),
            in_path=bool(self._endpoints.overrides.get(S3)),
        )
        region = _checked(region)
        try:
            region = region or await self._home_region()
        except AwsRefused:
            region = ANY_REGION
        async with self._turn(self._endpoints.url(S3, region)):
            return await store.get(
                region,
                bucket,
                key,
                limit_bytes=limit_bytes,
                attempts=OBJECT_ATTEMPTS,
                limit_s=OBJECT_ATTEMPT_S,
            )

    async def registry_token(
        self, role: AskRole | None, region: str, registry_id: str, *, endpoint: str = ""
    ) -> RegistryToken:
        """Return a login to the ECR registries of an account in a region.

        Args:
            role: whose keys to sign with; None for this host's own.
            region: of the registries.
            registry_id: account of the registries; empty for that of the keys.
            endpoint: URL or host of the API, where control names one.
        """
        keys = self._access.chain if role is None else RoleKeys(role)
        api = await self._api(ECR, registry_tokens.TARGET, keys, region, endpoint)
        async with self._turn(api.endpoint):
            return await registry_tokens.registry_token(
                api,
                registry_id,
                now=self._access.clock.time(),
                attempts=ATTEMPTS,
                limit_s=ATTEMPT_S,
            )

    async def _api(
        self, service: str, target: str, keys: KeySource, region: str, endpoint: str = ""
    ) -> JsonApi:
        region = _checked(region) or await self._home_region()
        url = self._endpoints.url(service, region)
        if endpoint and not self._endpoints.overrides.get(service):
            url = _told_url(endpoint)
        signer = Signer(region, service, self._access.clock)
        return JsonApi(self._access.http, keys, signer, url, target, first_wait_s=FIRST_WAIT_S)

    @contextlib.asynccontextmanager
    async def _turn(self, endpoint: URL) -> AsyncIterator[None]:
        gate = self._gates.setdefault(str(endpoint.origin()), asyncio.Semaphore(AT_ONCE))
        async with gate:
            yield

    async def _home_region(self) -> str:
        if self._region:
            return self._region
        try:
            found = await find_region(
                self._settings.aws_region, self._access.imds, external=self._settings.external
            )
        except ConfigError:
            text = "no region is named, and this host's is unknown; set AWS_DEFAULT_REGION on it"
            raise AwsRefused(text, code="MissingRegion") from None
        self._region = found.name
        return found.name


def _checked(region: str) -> str:
    """Return a region that somebody named; it becomes a part of a host name that is asked."""
    if region and not is_region(region):
        raise AwsRefused(f"{region[:100]!r} is not a region", code="BadRegion")
    return region


def _told_url(text: str) -> URL:
    """Return the URL of an API that control names by a URL or a host."""
    try:
        url = URL(text if "://" in text else f"https://{text}")
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise AwsRefused("control names an endpoint that is not a URL", code="BadEndpoint")
    return url


@contextlib.asynccontextmanager
async def open_services(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Services]:
    """Open the services according to the settings, and close them at the end of the block.

    Raises:
        ConfigError: the URL of a proxy is invalid.
    """
    async with open_access(settings, environ) as access:
        yield Services(access, Endpoints.of(settings, fips=access.fips), settings)
