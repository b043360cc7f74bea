"""Logs each transition of a task and its containers.

Reads a record and its ``LiveState``, writes to the log, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from agent.model.status import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine.live import LiveState
    from agent.model.task import AgentContainer, AgentTask

_log = structlog.get_logger()


class TransitionLog:
    """Logs each transition of one task and its containers once; belongs to its runner."""

    def __init__(
        self, record: AgentTask, live: LiveState, *, on_running: Callable[[], None]
    ) -> None:
        """Start with the current state; ``on_running`` is called when a container has started."""
        self._record = record
        self._live = live
        self._on_running = on_running
        self._task = record.known
        self._containers = {c.name: c.known for c in record.containers.values()}
        self._astray: set[str] = set()

    def tell(self) -> None:
        """Log what has changed since the last call."""
        for container in self._record.containers.values():
            if self._containers[container.name] is not container.known:
                self._containers[container.name] = container.known
                self._tell_container(container)
        self._tell_astray()
        if self._task is not self._record.known:
            self._task = self._record.known
            _log.info(
                "task " + self._task.name,
                task=self._record.arn,
                reason=self._record.reason or None,
            )

    def _tell_container(self, container: AgentContainer) -> None:
        if container.known is ContainerStatus.RUNNING:
            self._on_running()
        _log.info(
            "container " + container.known.name,
            task=self._record.arn,
            container=container.name,
            exit_code=container.exit_code,
            reason=container.reason or None,
        )

    def _tell_astray(self) -> None:
        """Log that a container runs again after its end, and when it ends a second time."""
        if not (self._live.astray or self._astray):
            return
        astray = set(self._live.astray)
        for name in sorted(astray ^ self._astray):
            about = {"task": self._record.arn, "container": name}
            if name not in astray:
                _log.info("a container that had been started again has ended", **about)
            elif self._record.containers[name].stopped_again_at:
                _log.warning(
                    "a container that had ended was started again repeatedly; it is now left to "
                    "whoever starts it",
                    **about,
                )
            else:
                _log.warning("a container that had ended was started again; stopping it", **about)
        self._astray = astray
