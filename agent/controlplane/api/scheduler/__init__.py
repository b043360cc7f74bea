"""The API of EventBridge Scheduler: schedules whose target is an ECS cluster, and their groups.

What runs them is in ``controlplane.schedules``. Names, limits and texts are those of the service where they
are known. Tests: ``tests/unit/controlplane/api/scheduler``.
"""
