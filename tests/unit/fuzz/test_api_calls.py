"""Whatever is asked of any API of control, it is refused by name or answered, and what runs beside goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.controlplane.server import background
from agent.controlplane.server.settings import ControlSettings
from tests.fuzz.api_calls import ApiCalls
from tests.fuzz.choices import of_seed
from tests.fuzz.control import opened
from tests.fuzz.first_calls import FIRST

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 600
NOT_ALLOWED = {("sts", "AssumeRole"): {"AccessDeniedException"}}
"""To the root of an account, as on AWS."""


async def test_first_calls_are_answered(tmp_path: Path) -> None:
    async with opened(tmp_path) as control:
        calls = await asyncio.to_thread(ApiCalls, control.parts)
        await calls.begin()
        for service, operation, _ in FIRST:
            expected = NOT_ALLOWED.get((service, operation), {"ok"})
            assert calls.outcomes[service, operation] == expected, operation


@pytest.mark.parametrize("seed", range(3))
async def test_calls_of_all_apis(tmp_path: Path, seed: int) -> None:
    choices = of_seed(seed)
    with structlog.testing.capture_logs() as logged:
        async with opened(tmp_path) as control:
            jobs = background.jobs(ControlSettings(data_dir=tmp_path), control)
            running = [asyncio.create_task(run(), name=name) for name, run in jobs.items()]
            calls = await asyncio.to_thread(ApiCalls, control.parts)
            await calls.begin()
            for _ in range(CALLS):
                await calls.call(choices)
            await asyncio.sleep(0.1)
            failed = [task for task in running if task.done() and task.exception() is not None]
            for task in running:
                task.cancel()
            await asyncio.wait(running)
    assert not failed
    assert not [entry for entry in logged if entry["log_level"] in {"error", "critical"}]
    assert sum("ok" in found for found in calls.outcomes.values()) > 60
