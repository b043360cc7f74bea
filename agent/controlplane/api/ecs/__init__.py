"""The ECS API: the operations that operators call, one module for each kind of resource.

A handler is ``async (Parts, request) -> response`` (``controlplane.parts.Handler``). It is listed in
the table ``HANDLERS`` of its module, and ``operations`` merges the tables. ``*_shapes`` and
``task_reads`` turn records into responses; ``naming`` finds what a request names.

May use the store through ``controlplane.access``, ``definition``, ``scheduler`` and ``tasks``. Fails with
``front.errors.ApiError`` with the messages of Amazon ECS. Handlers run concurrently and change records
only by compare-and-set. Tests: ``tests/unit/controlplane/api/ecs``; their client checks every response
and error against botocore's model.
"""
