"""Task definitions as data: the known fields, rules for their values, and the overrides of a run.

::

    fields.py   the one table of all fields: done, refused at registration or at RunTask, or without
                meaning here; and the attribute that a host must have. ``support`` reads it, and a
                test compares it with botocore's model, so that a new field of Amazon's is noticed
    rules.py  container_rules.py  fetched_rules.py  port_rules.py  sizes.py  fargate.py    Amazon's
                checks of values
    overrides.py                what RunTask changes in a definition
    gpus.py                     the GPUs that its containers want: numbers, all, or shares
    needs.py                    CPU, memory, ports and GPUs that a task needs on its host
    payload.py  docker_config.py  fetched.py    what the agent gets
    secret_refs.py              what a ``valueFrom`` refers to, and whether control keeps its value

Pure: nothing here reads the store or the clock. Raises ``ClientException`` for a broken rule, and
``OverrideError`` for an override that does not fit its definition.
Tests: ``tests/unit/controlplane/definition``.
"""
