"""Tasks as services have them, for tests of what only such tasks can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.ecs import task_orders

if TYPE_CHECKING:
    import pytest

SERVICE = "service:web"
"""A group that RunTask refuses, as Amazon ECS does."""


def let_run_task_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have RunTask of a control endpoint in this process start tasks of services too."""

    def group(request: dict[str, Any], _definition: object) -> str:
        named: str = request["group"]
        return named

    monkeypatch.setattr(task_orders, "_group", group)
