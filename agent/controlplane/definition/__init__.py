"""Task definitions as data: which fields there are, what they must be, what a run changes of them.

::

    fields.py   the one table of all fields: done, refused at registration or at RunTask, or without
                meaning here; and the attribute that a host must have. ``support`` reads it, and a
                test holds it against botocore's model, so that a field that Amazon adds is seen
    rules.py  container_rules.py  port_rules.py  sizes.py  fargate.py    Amazon's checks of values
    overrides.py                what RunTask changes of a definition
    needs.py                    CPU, memory, ports and GPUs that a task needs of its host
    payload.py  docker_config.py    what the agent is given
    secret_refs.py              what a ``valueFrom`` names, and whether control keeps its value

Pure: nothing here reads the store or the clock. Raises ``ClientException`` for a rule that is
broken, ``OverrideError`` for an override that does not fit its definition.
Tests: ``tests/unit/controlplane/definition``.
"""
