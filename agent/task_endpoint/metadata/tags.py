"""Tags of tasks and of this host, asked of control when a container asks, and kept for a short time.

Belongs to one event loop. Never fails: what could not be had is told in ``TaskTags.errors``.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import AgentError, AwsRefused, AwsUnavailable
from agent.task_endpoint.metadata.document import TagError
from agent.task_endpoint.metadata.facts import TaskTags

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.lookups import AskTags

LIMIT_S: Final = 3.5
"""For both resources together; clients are promised an answer within five seconds."""
KEPT_S: Final = 30.0
"""How late a change of tags may be seen."""
FAILURE_KEPT_S: Final = 5.0
KEPT_MOST: Final = 2048


class _Found(NamedTuple):
    """Tags of one resource, or why there are none."""

    tags: dict[str, str]
    code: str = ""
    problem: str = ""


class Tags:
    """Gets tags of resources. Many callers may ask at once: one call is made for them."""

    def __init__(
        self,
        ask: AskTags,
        instance_arn: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Take who is asked.

        Args:
            ask: asks control for the tags of one resource.
            instance_arn: returns this host's container instance; empty before the first registration.
            clock: returns seconds that never go back.
            limit_s: how long control may take.
        """
        self._ask = ask
        self._instance_arn = instance_arn
        self._clock = clock
        self._limit_s = limit_s
        self._kept: OrderedDict[str, tuple[float, _Found]] = OrderedDict()
        """By resource, with the time until which they are kept."""
        self._asking: dict[str, asyncio.Task[_Found]] = {}

    async def of(self, task_arn: str) -> TaskTags:
        """Return the tags of a task and of this host."""
        instance_arn = self._instance_arn()
        instance, task = await asyncio.gather(self._find(instance_arn), self._find(task_arn))
        asked = (
            ("ContainerInstanceTags", instance_arn, instance),
            ("TaskTags", task_arn, task),
        )
        return TaskTags(
            task=task.tags,
            instance=instance.tags,
            errors=[
                TagError(
                    error_field=name,
                    error_code=found.code,
                    error_message=found.problem,
                    resource_arn=arn,
                )
                for name, arn, found in asked
                if found.problem
            ],
        )

    async def _find(self, arn: str) -> _Found:
        if not arn:
            return _Found({}, problem="this host is not registered with control yet")
        until, found = self._kept.get(arn, (0.0, _Found({})))
        if self._clock() < until:
            return found
        call = self._asking.get(arn)
        if call is None:
            call = asyncio.create_task(self._call(arn))
            self._asking[arn] = call
            call.add_done_callback(lambda _: self._asking.pop(arn, None))
        return await asyncio.shield(call)

    async def _call(self, arn: str) -> _Found:
        try:
            async with asyncio.timeout(self._limit_s):
                found = _Found(dict(await self._ask(arn)))
        except TimeoutError:
            found = _Found({}, problem=f"control did not answer within {self._limit_s:g} s")
        except AgentError as error:
            code = error.code if isinstance(error, AwsRefused | AwsUnavailable) else ""
            found = _Found({}, code, str(error))
        kept_s = FAILURE_KEPT_S if found.problem else KEPT_S
        self._kept.pop(arn, None)
        self._kept[arn] = (self._clock() + kept_s, found)
        while len(self._kept) > KEPT_MOST:
            self._kept.popitem(last=False)
        return found
