"""The API of EventBridge for rules with a schedule whose targets are ECS clusters.

Event patterns, other event buses and other targets are refused by name. What runs the rules is in
``controlplane.schedules``. Tests: ``tests/unit/controlplane/api/events``.
"""
