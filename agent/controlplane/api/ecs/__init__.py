"""The ECS API: the operations that operators call, one module for each kind of thing.

A handler is ``async (Parts, request) -> response`` (``controlplane.parts.Handler``); the table
``HANDLERS`` of its module names it, and ``operations`` puts the tables together. ``*_shapes`` and
``task_reads`` make answers of records, ``naming`` finds what a request names.

May use the store through ``controlplane.access``, ``definition``, ``scheduler`` and ``tasks``. Fails with
``front.errors.ApiError`` in the words of Amazon ECS. Handlers run side by side and change records by
compare-and-set alone. Tests: ``tests/unit/controlplane/api/ecs``; their client holds every answer and
error to botocore's model.
"""
