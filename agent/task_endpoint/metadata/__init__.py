"""Task metadata: what a container can ask about itself and its task, versions 2, 3 and 4.

======================================== =========================================================
``endpoint_ids``                         the ids in the URIs of containers, made from one secret
``environment``                          the variables that lead a container here
``document``                             the JSON objects; pure data
``facts``, ``build``, ``networks``       from a task's record and its containers to those objects; pure
``paths``                                what a path asks for, and the texts of each version's errors; pure
``observations``                         containers as the engine describes them, asked for on demand
``stats``                                figures in the engine's own shape, from the sampler; pure
``tags``                                 tags of tasks and of this host, asked of control
``answers``                              puts all of these together
``file``                                 the metadata file of ``ECS_ENABLE_CONTAINER_METADATA``
======================================== =========================================================

Nothing here is on the way of a launch: ids are computed, and the engine is only asked when a container
asks. A caller that is known to belong to another task gets the answer for an unknown id. When the engine or
control does not answer in time, the answer has what is known, or says what is missing.

Source of paths, fields and texts: Amazon ECS agent 1.105.1, ``agent/handlers``, ``ecs-agent/tmds``.
Tests: ``tests/unit/task_endpoint/metadata``, ``tests/integration/task_endpoint``.
"""
