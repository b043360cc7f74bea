"""The server of tasks, for these tests."""

from tests.unit.task_endpoint.conftest import groups, serve

__all__ = ["groups", "serve"]
