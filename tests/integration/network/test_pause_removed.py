"""The pause image is removed by hand, or by a prune from cron, while the agent runs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.errors import RuntimeFailure

if TYPE_CHECKING:
    import docker

    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration


async def remove(sdk: docker.APIClient, image: str) -> None:
    await asyncio.to_thread(sdk.remove_image, image, force=True)


async def test_it_is_loaded_again_once_for_all_who_miss_it(
    host: Host, sdk: docker.APIClient
) -> None:
    networks = await host.networks()
    await remove(sdk, host.image)
    claims = [networks.claim(f"arn:{n}", f"eni-{n}") for n in range(6)]
    addresses = {network.ipv4 for network in await asyncio.gather(*claims)}
    assert len(addresses) == 6
    assert host.loads == 1
    await remove(sdk, host.image)
    await networks.claim("arn:again", "eni-again")
    assert host.loads == 2
    assert networks.problems == []


async def test_the_pool_is_filled_without_it(host: Host, sdk: docker.APIClient) -> None:
    networks = await host.networks()
    await remove(sdk, host.image)
    networks = await host.networks(warm_sandboxes=2)
    run = asyncio.create_task(networks.run(on_lost=lambda *_: None))
    async with asyncio.timeout(20):
        while networks.warm < 2:  # noqa: ASYNC110 - the pool has no event of its own
            await asyncio.sleep(0.05)
    assert host.loads == 1
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_one_that_cannot_be_loaded_is_an_error_of_the_engine(
    host: Host, sdk: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = await host.networks()
    await remove(sdk, host.image)
    with monkeypatch.context() as broken:

        async def refuse(_archive: bytes) -> None:
            raise RuntimeFailure("no space left on device", operation="loaded")

        broken.setattr(host.engine, "load_image", refuse)
        claims = [networks.claim(f"arn:{n}", f"eni-{n}") for n in range(3)]
        for answer in await asyncio.gather(*claims, return_exceptions=True):
            assert isinstance(answer, RuntimeFailure)
            assert "no space left" in str(answer)
    assert (await networks.claim("arn:later", "eni-later")).ipv4
