"""A task that asks for an address: it gets that one, or a refusal that says who has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import NetworkFailure
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration


async def test_an_address_is_kept_for_the_task_that_asks_for_it(host: Host) -> None:
    settings: dict[str, Any] = {"ipv6_cidr": "fd5e:77::/64", "reserved_cidr": "10.218.77.32/27"}
    networks = await host.networks(**settings)
    one = await networks.claim("arn:one", "eni-1", address="10.218.77.40")
    assert (one.ipv4, one.ipv6) == ("10.218.77.40", "fd5e:77::28")
    assert await networks.claim("arn:one", "eni-1", address="10.218.77.40") == one
    with pytest.raises(
        NetworkFailure, match=r"asks for the address fd5e:77::28, which arn:one has"
    ):
        await networks.claim("arn:two", "eni-2", address="fd5e:77::28")
    with pytest.raises(NetworkFailure, match=r"10\.219\.0\.1, which is not in ECS_TASK_POOL_CIDR"):
        await networks.claim("arn:two", "eni-2", address="10.219.0.1")

    networks = await host.networks(**settings)
    assert await networks.claim("arn:one", "eni-1", address="10.218.77.40") == one
    # The next task may come while the one before is still leaving, and while its address rests.
    _, again = await asyncio.gather(
        networks.release("arn:one"), networks.claim("arn:next", "eni-3", address="10.218.77.40")
    )
    assert again.ipv4 == one.ipv4
    assert again.sandbox_id != one.sandbox_id
    any_other = await networks.claim("arn:two", "eni-2")
    assert any_other.ipv4 == "10.218.77.2"
    await networks.release("arn:next")
    await networks.release("arn:two")


async def test_a_sandbox_that_is_ready_is_taken_if_it_has_the_address(host: Host) -> None:
    networks = await host.networks(warm_sandboxes=1)
    upkeep = asyncio.create_task(networks.run(on_lost=lambda _arn, _why: None))
    try:
        await asyncio.to_thread(eventually, lambda: networks.warm)
        one = await networks.claim("arn:one", "eni-1", address="10.218.77.2")
        assert one.ipv4 == "10.218.77.2"
    finally:
        upkeep.cancel()
        await asyncio.wait([upkeep])
        await networks.release("arn:one")
