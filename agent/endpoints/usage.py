"""The next round of samples for whoever watches the host: a call that is held until there is one.

A client names the round that it has (``after``) and how long it wants to wait for another one (``every``,
seconds). If the agent measures less often than that, it takes a round for this client; never more than
one per second, whoever asks.

Tests: ``tests/unit/endpoints/test_usage.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Final

from agent.endpoints.http import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.endpoints.source import AgentSource, SampleSource
    from agent.model.views import UsageView

HELD_S: Final = 25.0
"""How long a call is held; then it is answered with the same round."""
LEAST_S: Final = 1.0
MOST_S: Final = 3600.0
_USUAL_S: Final = 10.0
_OFF: Final = "metrics are off on this host; remove ECS_DISABLE_METRICS from its settings"


def asked(query: Mapping[str, str]) -> tuple[float | None, float]:
    """Return the round that a client has, and the seconds after which it wants another one.

    Raises:
        RequestRefused: 400, one of them is not a number.
    """
    after = _number(query, "after", None)
    every_s = _number(query, "every", _USUAL_S)
    if every_s is None or not LEAST_S <= every_s <= MOST_S:
        text = f"every={query['every']} must be between {LEAST_S:g} and {MOST_S:g} seconds"
        raise RequestRefused(400, text)
    return after, every_s


async def newest(agent: AgentSource, *, after: float | None, every_s: float) -> UsageView:
    """Return the newest round as soon as it is another one than ``after``.

    After ``HELD_S`` it returns whatever there is.

    Raises:
        RequestRefused: 409, metrics are off.
        EngineUnavailable: the agent is starting.
    """
    samples = agent.samples()
    if samples is None:
        raise RequestRefused(409, _OFF)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELD_S):
            await _another_round(samples, after, every_s)
    return agent.usage_view()


async def _another_round(samples: SampleSource, after: float | None, every_s: float) -> None:
    told = asyncio.Event()
    unsubscribe = samples.subscribe(lambda _batch: told.set())
    try:
        while samples.latest is None or samples.latest.host.at == after:
            told.clear()
            try:
                async with asyncio.timeout(every_s):
                    await told.wait()
            except TimeoutError:
                samples.poke()
    finally:
        unsubscribe()


def _number(query: Mapping[str, str], name: str, default: float | None) -> float | None:
    text = query.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestRefused(400, f"{name}={text[:40]} must be a number of seconds")
    return number
