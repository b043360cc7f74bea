"""What every call to AWS needs, built once from the settings: HTTP, metadata, keys, clock, region.

``open_access`` asks nobody. ``open_cloud`` asks instance metadata if the settings do not name the
region; it raises ``ConfigError`` if only a setting can help, and ``AwsUnavailable`` if waiting may.

Tests: ``tests/unit/upstream/test_backends.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.aws.api import JsonApi
from agent.aws.clock import AwsClock
from agent.aws.credentials import CredentialChain, chain_for
from agent.aws.ec2_host import asks_metadata
from agent.aws.http import AwsHttp, Proxies
from agent.aws.imds import ENDPOINT as IMDS_ENDPOINT
from agent.aws.imds import Imds
from agent.aws.keys import Keys
from agent.aws.places import find_region, fips_enabled, service_url
from agent.aws.query import EC2_VERSION, QueryApi
from agent.aws.signing import Signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from yarl import URL

    from agent.aws.keys import KeySource
    from agent.config import Settings


@dataclass(frozen=True, slots=True)
class Access:
    """The way to AWS from this host, whatever the region. Belongs to one event loop."""

    http: AwsHttp
    imds: Imds
    chain: CredentialChain
    clock: AwsClock
    fips: bool
    """Whether the kernel requires FIPS endpoints."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Access to AWS from this host. Belongs to one event loop; ``open_cloud`` closes it."""

    region: str
    region_is_guess: bool
    """Whether the region is a guess; see ``places.Region``."""
    http: AwsHttp
    imds: Imds
    chain: CredentialChain
    clock: AwsClock
    fips: bool
    """Whether the kernel requires FIPS endpoints."""

    def signer(self, service: str) -> Signer:
        """Return the signer for a service in this region."""
        return Signer(self.region, service, self.clock)

    def url(self, service: str, *, override: str = "") -> URL:
        """Return the endpoint of a service; ``override`` wins over everything else."""
        return service_url(service, self.region, override=override, fips=self.fips)

    def ecs(self, *, override: str = "", keys: KeySource | None = None) -> JsonApi:
        """Return the ECS API; ``keys`` sign the calls, this host's own if there are none."""
        url = self.url("ecs", override=override)
        return JsonApi(self.http, keys or self.chain, self.signer("ecs"), url)

    def ec2(self) -> QueryApi:
        """Return the EC2 query API."""
        return QueryApi(self.http, self.chain, self.signer("ec2"), self.url("ec2"), EC2_VERSION)


@contextlib.asynccontextmanager
async def open_access(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Access]:
    """Open the way to AWS according to the settings, and close it at the end of the block.

    Args:
        settings: proxies, keys, metadata.
        environ: what botocore reads in addition: profiles and file locations.

    Raises:
        ConfigError: the URL of a proxy is invalid.
    """
    proxies = Proxies(settings.http_proxy, settings.https_proxy, settings.no_proxy)
    clock = AwsClock()
    async with AwsHttp(proxies, os_detail=settings.detailed_os_family) as http:
        asks = partial(
            asks_metadata, disabled=settings.metadata_disabled, endpoint=settings.metadata_endpoint
        )
        imds = Imds(
            http,
            enabled=await asyncio.to_thread(asks),
            endpoint=settings.metadata_endpoint or IMDS_ENDPOINT,
        )
        chain = chain_for(
            given=_given(settings),
            external=settings.external,
            profile=settings.alternate_credential_profile,
            rotating_file=settings.rotating_credentials_file,
            imds=imds,
            environ=environ,
            clock=clock,
        )
        try:
            yield Access(http, imds, chain, clock, await fips_enabled())
        finally:
            await chain.close()


@contextlib.asynccontextmanager
async def open_cloud(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Cloud]:
    """Open access to AWS according to the settings, and close it at the end of the block.

    Args:
        settings: proxies, keys, metadata, region.
        environ: what botocore reads in addition: profiles and file locations.

    Raises:
        ConfigError: the region is unknown and the operator must set it.
        AwsUnavailable: the region is needed from instance metadata, which does not answer.
    """
    async with open_access(settings, environ) as access:
        region, is_guess = await find_region(
            settings.aws_region,
            access.imds,
            external=settings.external,
            override=settings.backend_host,
        )
        yield Cloud(
            region, is_guess, access.http, access.imds, access.chain, access.clock, access.fips
        )


def _given(settings: Settings) -> Keys | None:
    # With a control of our own, half a key is not a mistake: it may be another program's variable.
    if not settings.aws_access_key_id or not settings.aws_secret_access_key:
        return None
    return Keys(
        settings.aws_access_key_id.reveal(),
        settings.aws_secret_access_key.reveal(),
        settings.aws_session_token.reveal(),
    )
