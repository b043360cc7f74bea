"""Names by which tasks find each other: what AWS Cloud Map keeps, in control's own store.

::

    record.py     namespaces, registries, registered instances, aliases and operations, as they are stored; their keys
    stored.py     reads and writes them; every change of a registry's instances gives it a new revision
    health.py     which instances of a registry are answered; pure
    task_instances.py  the instance that stands for a task; pure
    feed.py       what each host is told of names in DNS, and what of it changed
    loop.py       registers the tasks of services, and deregisters them

A **registry** is what Cloud Map calls a service, and ECS ``serviceRegistries``: a name within a namespace.
An **alias** is a name of Service Connect, which leads to the tasks in one or more registries.
The API is in ``api.servicediscovery``. May use the store. Tests: ``tests/unit/controlplane/discovery``.
"""
