"""The host ports of a task: pick them, take over those that the engine published, show them.

``pick`` leaves what is to be recorded to the runner; ``give_up``, ``take_over`` and ``show`` are called on the
runner's turn and change the record.

Tests: ``tests/unit/engine/test_ports.py``, ``tests/unit/engine/test_engine_restart.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine import ports
from agent.errors import AgentError
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.engine.tools import PortPicker, RecordWriter
    from agent.model.payload import Container
    from agent.model.task import AgentTask


class PortSteps:
    """The host ports of one task. Only ``bridge`` mode picks any."""

    def __init__(self, record: AgentTask, picker: PortPicker, writer: RecordWriter) -> None:
        self._record = record
        self._picker = picker
        self._writer = writer

    async def pick(self, definition: Container) -> None:
        """Pick dynamic host ports and save them first: after a crash the same ones are published."""
        if self._record.payload.mode is not NetworkMode.BRIDGE:
            return
        known = self._record.host_ports
        missing = [
            (key, mapping)
            for key, mapping in ports.keyed_mappings(definition)
            if ports.needs_pick(mapping) and key not in known
        ]
        picked: dict[str, list[int]] = {}
        try:
            for key, mapping in missing:
                count = len(ports.container_ports(mapping))
                picked[key] = self._picker.pick(mapping.protocol or "tcp", count)
            if picked:
                self._writer.post(lambda _now: known.update(picked))
                await self._writer.saved()
        except AgentError:
            self._writer.post(lambda _now: _drop(known, picked))
            for key, mapping in missing:
                self._picker.release(mapping.protocol or "tcp", picked.get(key, ()))
            raise

    def picked(self, definition: Container) -> dict[str, list[int]]:
        """Return the ports that were picked for a container, by the keys of its mappings."""
        known = self._record.host_ports
        return {key: known[key] for key, _ in ports.keyed_mappings(definition) if key in known}

    def give_up(self, definition: Container) -> None:
        """Forget the ports that were picked for a container, so that it gets others."""
        picked = self.picked(definition)
        for key, numbers in picked.items():
            self._picker.release(key.rsplit("/", 1)[-1], numbers)
        _drop(self._record.host_ports, picked)

    async def have(self, definition: Container, bindings: Mapping[str, list[int]]) -> None:
        """Give a container the ports of its sandbox, and save them first, as ``pick`` does."""
        if ports.published(definition, bindings):
            self._writer.post(lambda _now: self._take_over(definition, bindings))
            await self._writer.saved()

    def _take_over(self, definition: Container, bindings: Mapping[str, list[int]]) -> None:
        self.take_over(definition, bindings)

    def take_over(self, definition: Container, bindings: Mapping[str, list[int]]) -> bool:
        """Take picked ports as the engine has them; return whether the record was wrong."""
        record = self._record
        if record.payload.mode is not NetworkMode.BRIDGE:
            return False
        known = record.host_ports
        wrong = {
            key: hosts
            for key, hosts in ports.published(definition, bindings).items()
            if known.get(key) != hosts
        }
        for key, hosts in wrong.items():
            protocol = key.rsplit("/", 1)[-1]
            self._picker.release(protocol, known.get(key, ()))
            self._picker.hold(protocol, hosts)
            known[key] = hosts
        return bool(wrong)

    def show(self, definition: Container) -> None:
        """Record which ports of a container are reached by which of the host."""
        record = self._record
        record.containers[definition.name].bindings = ports.network_bindings(
            record.payload, definition, record.host_ports
        )


def _drop(known: dict[str, list[int]], keys: Iterable[str]) -> None:
    for key in keys:
        known.pop(key, None)
