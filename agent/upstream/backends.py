"""Selects the control that the settings name, with the start-up steps that depend on it.

There are two: our own control endpoint over the long poll, and Amazon ECS. Apart from this choice,
the daemon works the same with both. Code for Amazon ECS is imported only when needed, because
importing botocore's signing takes a tenth of a second.
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
    """Access to one kind of control."""

    is_ecs: bool
    """Whether the host is described in the form that Amazon ECS expects."""
    endpoint: str
    """Where control is; for display."""

    async def open_store(self, path: Path) -> StateStore:
        """Open the agent's state; set aside that of another host if control requires it.

        Raises:
            StateFailure: the state cannot be opened, or not set aside.
        """

    async def open_control(
        self, store: StateStore, describe: DescribeHost, take: TakeAssignments, around: HostParts
    ) -> Control:
        """Return the client of this control, not yet running.

        Raises:
            ConfigError: the settings do not match the earlier registration.
            StateFailure: the saved registration cannot be read.
        """


class LongPollBackend:
    """Access to our own control endpoint."""

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
        """Return the long-poll client, which asks ``host`` what it holds."""
        settings = LongPollSettings(
            endpoint=self._settings.control_endpoint,
            cluster=self._settings.cluster,
            token_file=self._settings.control_token_file,
            ca_file=self._settings.control_ca_file,
            data_dir=self._settings.data_dir,
        )
        return await LongPollClient.open(
            settings,
            store,
            describe,
            take,
            around.holding,
            around.credentials,
            around.logs,
            drain=around.drain,
            commands=around.commands,
        )


def check(settings: Settings) -> None:
    """Check that the settings or the host itself name a control. No network calls; blocks briefly.

    Raises:
        ConfigError: they name none.
    """
    told = (
        settings.control_endpoint,
        settings.external,
        settings.backend_host,
        settings.aws_region,
    )
    if any(told):
        return
    from agent.aws.ec2_host import asks_metadata  # noqa: PLC0415 - see the module docstring

    if asks_metadata(disabled=settings.metadata_disabled, endpoint=settings.metadata_endpoint):
        return
    raise ConfigError(
        "no control is set: run 'ecs-agent join URL', or set ECS_CONTROL_ENDPOINT to the URL of a "
        "control endpoint ('ecs-agent standalone' runs one here, with an agent); for Amazon ECS, "
        "set AWS_DEFAULT_REGION, and ECS_EXTERNAL=true because this host is not an EC2 instance"
    )


@contextlib.asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Open the backend of the control that the settings name, and close it at the end of the block.

    Raises:
        ConfigError: the settings name no control, or an unusable one; the text names the fix.
        AwsUnavailable: this may be an EC2 instance, but its metadata service does not answer now.
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
            # An EC2 instance's metadata may answer next time; otherwise say what is missing.
            raise AwsUnavailable(f"{error}; {_mend(settings)}", code=error.code) from None
        yield backend


def _mend(settings: Settings) -> str:
    amazon = "set AWS_DEFAULT_REGION, and ECS_EXTERNAL=true if this host is not an EC2 instance"
    if settings.backend_host:
        return amazon
    return f"for Amazon ECS, {amazon}; for a control endpoint, set ECS_CONTROL_ENDPOINT to its URL"


def _load() -> Callable[
    [Settings, Mapping[str, str]], contextlib.AbstractAsyncContextManager[Backend]
]:
    """Import the code for Amazon ECS; blocks while its files are read."""
    from agent.upstream.amazon.backend import open_amazon_backend  # noqa: PLC0415 - see the module docstring

    return open_amazon_backend
