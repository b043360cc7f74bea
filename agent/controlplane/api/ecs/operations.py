"""All operations of the ECS API that are served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.ecs import (
    account_settings,
    attributes,
    capacity_providers,
    clusters,
    definition_deletion,
    execute_command,
    instances,
    service_deployments,
    services,
    tags,
    task_definitions,
    task_protection,
    task_sets,
    tasks,
)

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return {
        **clusters.HANDLERS,
        **account_settings.HANDLERS,
        **capacity_providers.HANDLERS,
        **tags.HANDLERS,
        **task_definitions.HANDLERS,
        **definition_deletion.HANDLERS,
        **instances.HANDLERS,
        **attributes.HANDLERS,
        **task_protection.HANDLERS,
        **tasks.handlers(),
        **execute_command.HANDLERS,
        **services.HANDLERS,
        **service_deployments.HANDLERS,
        **task_sets.HANDLERS,
    }
