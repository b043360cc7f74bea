from __future__ import annotations

import asyncio
import contextlib

from agent.controlplane.agents.held_polls import POLLS_MOST, HeldPolls


async def test_the_oldest_poll_of_a_host_is_answered_when_it_holds_too_many() -> None:
    polls, events = HeldPolls(), [asyncio.Event() for _ in range(POLLS_MOST + 1)]
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(polls.entered("host", event)) for event in events]
        other = stack.enter_context(polls.entered("other", asyncio.Event()))
        assert [poll.is_over for poll in held] == [True] + [False] * POLLS_MOST
        assert [event.is_set() for event in events] == [True] + [False] * POLLS_MOST
        assert not other.is_over
        assert len(polls) == POLLS_MOST + 1
    assert len(polls) == 0


async def test_a_poll_that_ended_makes_room() -> None:
    polls = HeldPolls(most=1)
    for _ in range(3):
        with polls.entered("host", asyncio.Event()) as poll:
            pass
        assert not poll.is_over
    with (
        polls.entered("host", asyncio.Event()) as old,
        polls.entered("host", asyncio.Event()) as new,
    ):
        assert (old.is_over, new.is_over) == (True, False)
