"""Which control the settings name, and what of the start depends on it.

Two ways: our own control endpoint over the long poll, and Amazon ECS. The daemon takes one and is
the same from there on. What only Amazon ECS needs is imported when it is needed: botocore's signing
costs every start a tenth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from agent.errors import AwsUnavailable, ConfigError
from agent.state import StateStore
from agent.upstream import host_identity
from agent.upstream.longpoll.client import LongPollClient, LongPollSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from agent.config import Settings
    from agent.upstream.protocol import Control, DescribeHost, HostParts, TakeAssignments


class Backend(Protocol):
    """How one kind of control is reached."""

    is_ecs: bool
    """Whether the other end is to be described to as Amazon ECS is."""
    endpoint: str
    """Where control is, for people."""

    async def open_store(self, path: Path) -> StateStore:
        """Open the agent's state; that of another host is put aside where control would mind.

        Raises:
            StateFailure: it cannot be opened, or not put aside.
        """

    async def open_control(
        self, store: StateStore, describe: DescribeHost, take: TakeAssignments, around: HostParts
    ) -> Control:
        """Return the client of this control, not running yet.

        Raises:
            ConfigError: the settings do not fit what was registered before.
            StateFailure: what was saved of the registration cannot be read.
        """


class LongPollBackend:
    """To our own control endpoint."""

    is_ecs = False

    def __init__(self, settings: Settings) -> None:
        self.endpoint = settings.control_endpoint
        self._settings = settings

    async def open_store(self, path: Path) -> StateStore:
        """Open the agent's state."""
        return await StateStore.open(path, kept_twice=host_identity.KEPT)

    async def open_control(
        self, store: StateStore, describe: DescribeHost, take: TakeAssignments, around: HostParts
    ) -> Control:
        """Return the client of the long poll, which asks the host what it holds."""
        settings = LongPollSettings(
            endpoint=self._settings.control_endpoint,
            cluster=self._settings.cluster,
            token_file=self._settings.control_token_file,
            ca_file=self._settings.control_ca_file,
        )
        return await LongPollClient.open(settings, store, describe, take, around.holding)


def check(settings: Settings) -> None:
    """Return where the settings, or what this host is, name a control. Asks nobody; blocks a moment.

    Raises:
        ConfigError: they do not.
    """
    told = (
        settings.control_endpoint,
        settings.external,
        settings.backend_host,
        settings.aws_region,
    )
    if any(told):
        return
    from agent.aws.ec2_host import asks_metadata  # noqa: PLC0415 - see the top

    if asks_metadata(disabled=settings.metadata_disabled, endpoint=settings.metadata_endpoint):
        return
    raise ConfigError(
        "no control is set: run 'ecs-agent join URL', or set ECS_CONTROL_ENDPOINT to the URL of a "
        "control endpoint ('ecs-agent standalone' runs one here, and the agent); for Amazon ECS, "
        "set AWS_DEFAULT_REGION, and ECS_EXTERNAL=true because this host is no EC2 instance"
    )


@contextlib.asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Open the backend of the control that the settings name, and close it at the end of the block.

    Raises:
        ConfigError: they name none, or one that cannot be used; the text names the mend.
        AwsUnavailable: this may be an EC2 instance, but its metadata does not answer now.
    """
    await asyncio.to_thread(check, settings)
    if settings.control_endpoint:
        yield LongPollBackend(settings)
        return
    open_amazon_backend = await asyncio.to_thread(_load)
    async with contextlib.AsyncExitStack() as stack:
        try:
            backend = await stack.enter_async_context(open_amazon_backend(settings, os.environ))
        except AwsUnavailable as error:
            # On an EC2 instance it may answer next time; anybody else has to know what is missing.
            raise AwsUnavailable(f"{error}; {_mend(settings)}", code=error.code) from None
        yield backend


def _mend(settings: Settings) -> str:
    amazon = "set AWS_DEFAULT_REGION, and ECS_EXTERNAL=true where this host is no EC2 instance"
    if settings.backend_host:
        return amazon
    return f"for Amazon ECS, {amazon}; for a control endpoint, set ECS_CONTROL_ENDPOINT to its URL"


def _load() -> Callable[
    [Settings, Mapping[str, str]], contextlib.AbstractAsyncContextManager[Backend]
]:
    """Import what Amazon ECS needs; blocks for as long as its files take to read."""
    from agent.upstream.amazon.backend import open_amazon_backend  # noqa: PLC0415 - see the top

    return open_amazon_backend
