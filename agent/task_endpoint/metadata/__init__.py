"""Task metadata: what a container can read about itself and its task, versions 2, 3 and 4.

======================================== =========================================================
``endpoint_ids``                         the ids in the URIs of containers, made from one secret
``environment``                          the variables with the URIs
``document``                             the JSON objects; pure data
``facts``, ``build``, ``networks``       from a task's record and its containers to those objects; pure
``paths``                                which paths there are, and what each asks for; pure
``version``, and one module for each     status codes and error texts of versions; pure
``observations``                         containers as the engine describes them, asked for on demand
``stats``                                samples in the engine's own format; pure
``tags``                                 tags of tasks and of this host, asked of control
``answers``                              answers requests with all of these
``file``                                 the metadata file of ``ECS_ENABLE_CONTAINER_METADATA``
======================================== =========================================================

Nothing here delays a launch: ids are computed, and the engine is asked only when a container asks. A caller that
is known to belong to another task gets the answer for an unknown id. If the engine or control does not answer
in time, the answer has what is known, or says what is missing.

Source of paths, fields and texts: Amazon ECS agent 1.105.1, ``agent/handlers``, ``ecs-agent/tmds``.
Tests: ``tests/unit/task_endpoint/metadata``, ``tests/integration/task_endpoint``.
"""
