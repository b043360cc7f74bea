"""The image of a container: get it, and know what it sets.

As in ``steps``, nothing here changes the record: what is to be recorded goes to the runner.

Tests: ``tests/unit/engine/test_steps.py``, ``tests/unit/engine/test_engine_pulls.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.engine import container_body
from agent.engine.live import FailedPull, LiveState
from agent.engine.preparations.execution_role import ask_execution_role
from agent.engine.settle import pull_ended
from agent.errors import NoSuchImage
from agent.images import ExecutionRole
from agent.model import ids
from agent.model.status import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine.tools import Outcome, RecordWriter, StepTools
    from agent.images import Obtained, Progress
    from agent.model.payload import Container
    from agent.model.task import AgentTask


class ImageSteps:
    """The images of one task."""

    def __init__(
        self, record: AgentTask, live: LiveState, tools: StepTools, writer: RecordWriter
    ) -> None:
        self._record = record
        self._live = live
        self._tools = tools
        self._writer = writer

    async def pull(self, definition: Container) -> Outcome:
        """Get the image of a container."""
        name = definition.name
        live = self._live
        began = live.since.get(name, 0.0)

        def note(progress: Progress) -> None:
            live.progress[name] = progress.line
            live.pulling_since[name] = began
            if progress.failed:
                self._writer.post(lambda now: _note_failure(live, name, progress, now))
            elif name in live.failed_pulls:
                live.failed_pulls[name] = FailedPull(live.failed_pulls[name].reason)

        try:
            obtained = await self.ensure(definition, note)
        finally:
            live.progress.pop(name, None)

        def outcome(now: float) -> None:
            container = self._record.containers[name]
            container.image_digest = obtained.digest
            container.image_name = obtained.local_name
            if obtained.variables is not None:
                live.image_variables[name] = obtained.variables
            container.known = max(container.known, ContainerStatus.PULLED)
            pull_ended(self._record, live, name, now)

        return outcome

    async def ensure(
        self, definition: Container, note: Callable[[Progress], None] | None = None
    ) -> Obtained:
        """Return an image once it is on the host; with the execution role's login if it has one."""
        payload = self._record.payload
        known = payload.execution_role_credentials
        role = ExecutionRole(
            (known.role_arn or known.credentials_id) if known else "",
            ask_execution_role(payload, self._tools.role_credentials),
            payload.arn,
        )
        return await self._tools.ensure_image(definition, role=role, on_progress=note)

    async def region(self, definition: Container) -> tuple[str, frozenset[str]]:
        """Return the region that a container may be given, and the variables that its image sets.

        Empty if the container's own environment names one. The engine is asked only after a restart:
        whoever pulled the image has seen its variables.
        """
        region = ids.region(self._record.payload.arn)
        own = definition.environment
        if not region or any(name in own for name in container_body.REGION_VARIABLES):
            return "", frozenset()
        seen = self._live.image_variables.get(definition.name)
        if seen is not None:
            return region, seen
        image = self._record.containers[definition.name].image_name or definition.image
        try:
            found = await self._tools.runtime.inspect_image(image)
        except NoSuchImage:
            again = await self.ensure(definition)
            found = await self._tools.runtime.inspect_image(again.local_name or image)
        return region, found.variables


def _note_failure(live: LiveState, name: str, progress: Progress, now: float) -> None:
    """Record why a try of a pull failed, and when by the wall clock the next one starts."""
    if name in live.progress:  # otherwise the pull has ended in the meantime
        wait_s = max(0.0, progress.next_try - time.monotonic())
        live.failed_pulls[name] = FailedPull(progress.failed, now + wait_s)
