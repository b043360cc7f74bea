"""Pulls and removals of one image wait for each other; those of others do not."""

from __future__ import annotations

import asyncio

from agent.images.locks import ImageLocks


async def test_a_pull_waits_for_the_removal_of_its_own_image_only() -> None:
    locks = ImageLocks()
    order: list[str] = []

    async def pull(name: str) -> None:
        async with locks.getting(name):
            order.append(name)

    with locks.removing(["a", "b"]) as held:
        assert held
        async with asyncio.TaskGroup() as group:
            waiting = asyncio.create_task(pull("b"))
            group.create_task(pull("c"))
        assert order == ["c"]
    await waiting
    assert order == ["c", "b"]


async def test_what_is_being_pulled_is_not_removed() -> None:
    locks = ImageLocks()
    async with locks.getting("a"), locks.getting("a"):
        assert locks.being_got() == {"a"}
        with locks.removing(["x", "a"]) as held:
            assert not held
            async with asyncio.timeout(1), locks.getting("x"):
                pass
    assert locks.being_got() == frozenset()
    with locks.removing(["x", "a"]) as held:
        assert held
        with locks.removing(["a"]) as second:
            assert not second


async def test_a_removal_that_fails_lets_pulls_go_on() -> None:
    locks = ImageLocks()
    try:
        with locks.removing(["a"]):
            raise ValueError
    except ValueError:
        pass
    async with asyncio.timeout(1), locks.getting("a"):
        assert locks.being_got() == {"a"}
