"""Tags are asked of control once for many callers, kept briefly, and an answer comes in any case."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import AwsRefused, ControlUnavailable
from agent.task_endpoint.metadata.tags import FAILURE_KEPT_S, KEPT_S, Tags

if TYPE_CHECKING:
    from collections.abc import Mapping


class Control:
    def __init__(self) -> None:
        self.tags: dict[str, Mapping[str, str]] = {"task": {"a": "1"}, "host": {"b": "2"}}
        self.calls: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.answers = asyncio.Event()
        self.answers.set()
        self.now = 100.0

    async def ask(self, arn: str) -> Mapping[str, str]:
        self.calls.append(arn)
        await self.answers.wait()
        if arn in self.failures:
            raise self.failures[arn]
        return self.tags[arn]

    def tags_of(self, host: str = "host", limit_s: float = 5.0) -> Tags:
        return Tags(self.ask, lambda: host, clock=lambda: self.now, limit_s=limit_s)


async def test_tags_are_kept_for_a_short_time() -> None:
    control = Control()
    tags = control.tags_of()
    found = await tags.of("task")
    assert (found.task, found.instance, found.errors) == ({"a": "1"}, {"b": "2"}, [])
    control.tags["task"] = {"a": "changed"}
    control.now += KEPT_S - 1
    assert (await tags.of("task")).task == {"a": "1"}
    control.now += 2
    assert (await tags.of("task")).task == {"a": "changed"}
    assert control.calls == ["host", "task", "host", "task"]


async def test_many_callers_make_one_call_and_one_that_leaves_takes_it_from_nobody() -> None:
    control = Control()
    control.answers.clear()
    tags = control.tags_of()
    callers = [asyncio.create_task(tags.of("task")) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    callers[0].cancel()
    control.answers.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(not isinstance(each, BaseException) and each.task for each in found[1:])
    assert control.calls == ["host", "task"]


async def test_a_failure_is_told_and_soon_tried_again() -> None:
    control = Control()
    control.failures["host"] = AwsRefused("not allowed", code="AccessDeniedException", status=400)
    control.failures["task"] = ControlUnavailable("away")
    tags = control.tags_of()
    errors = (await tags.of("task")).errors
    assert [(e.error_field, e.error_code, e.error_message, e.resource_arn) for e in errors] == [
        ("ContainerInstanceTags", "AccessDeniedException", "not allowed", "host"),
        ("TaskTags", "", "away", "task"),
    ]
    control.failures.clear()
    assert (await tags.of("task")).errors == errors
    control.now += FAILURE_KEPT_S + 0.1
    assert (await tags.of("task")).errors == []


async def test_a_control_that_does_not_answer_holds_nobody_up() -> None:
    control = Control()
    control.answers.clear()
    found = await control.tags_of(limit_s=0.01).of("task")
    assert [error.error_message for error in found.errors] == [
        "control did not answer within 0.01 s"
    ] * 2


async def test_a_host_that_is_not_registered_has_no_tags() -> None:
    control = Control()
    found = await control.tags_of(host="").of("task")
    assert (found.task, found.instance) == ({"a": "1"}, {})
    assert [error.error_field for error in found.errors] == ["ContainerInstanceTags"]
