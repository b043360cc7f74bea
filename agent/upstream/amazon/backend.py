"""The backend for Amazon ECS: the connection to AWS, the check of saved state, and the client.

Reads instance metadata at the start, and renames the state file if the state is of another host.
See ``agent.upstream.backends`` for what a backend is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from agent.aws.cloud import open_cloud
from agent.state import StateStore
from agent.upstream import host_identity
from agent.upstream.amazon import identity
from agent.upstream.amazon.client import AmazonClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from agent.aws.cloud import Cloud
    from agent.config import Settings
    from agent.upstream.protocol import Control, DescribeHost, HostParts, TakeAssignments

_log = structlog.get_logger()


class AmazonBackend:
    """Access to Amazon ECS, or to a compatible server at ``ECS_BACKEND_HOST``."""

    is_ecs = True

    def __init__(self, settings: Settings, cloud: Cloud) -> None:
        self.endpoint = str(cloud.url("ecs", override=settings.backend_host))
        self._settings = settings
        self._cloud = cloud

    async def open_store(self, path: Path) -> StateStore:
        """Open the agent's state; that of another host is renamed, and a new one is created.

        Raises:
            StateFailure: the state cannot be opened, or not renamed.
        """
        imds = None if self._settings.external else self._cloud.imds
        store = await StateStore.open(path, kept_twice=host_identity.KEPT)
        try:
            now = await identity.read_host_identity(imds)
            reason = await identity.verdict(store, now)
            suffix = f"of-{await identity.owner_name(store)}" if reason else ""
        except BaseException:
            await store.close()
            raise
        if reason:
            await store.close()
            kept = await asyncio.to_thread(identity.put_aside, path, suffix)
            _log.warning(
                "the saved state is of another host: it was renamed, and this host registers as a "
                "new container instance",
                reason=reason,
                kept=str(kept),
            )
            store = await StateStore.open(path, kept_twice=host_identity.KEPT)
        try:
            await identity.remember(store, now)
        except BaseException:
            await store.close()
            raise
        return store

    async def open_control(
        self, store: StateStore, describe: DescribeHost, take: TakeAssignments, around: HostParts
    ) -> Control:
        """Return the client of Amazon ECS, not yet running."""
        return await AmazonClient.open(self._settings, self._cloud, store, describe, take, around)


@contextlib.asynccontextmanager
async def open_amazon_backend(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[AmazonBackend]:
    """Connect to AWS, and close the connection at the end of the block.

    Raises:
        ConfigError: the region is unknown, or an address is invalid.
        AwsUnavailable: this may be an EC2 instance, but its metadata service does not answer.
    """
    async with open_cloud(settings, environ) as cloud:
        if cloud.region_is_guess:
            _log.warning(
                "no region is set: requests to ECS_BACKEND_HOST are signed for the default region; "
                "if they are refused, set AWS_DEFAULT_REGION",
                region=cloud.region,
                endpoint=str(cloud.url("ecs", override=settings.backend_host)),
            )
        yield AmazonBackend(settings, cloud)
