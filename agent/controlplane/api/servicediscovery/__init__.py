"""The API of AWS Cloud Map: namespaces, their services (here: registries) and the instances of these.

::

    namespaces.py   CreateHttpNamespace, CreatePrivateDnsNamespace, Get/Update/Delete, ListNamespaces
    registries.py   CreateService, GetService, UpdateService, DeleteService, ListServices
    registry_rules.py  what a registry may be; pure
    instances.py    RegisterInstance, DeregisterInstance, GetInstance, ListInstances, health
    instance_rules.py  what the attributes of an instance may be; pure
    discovery.py    DiscoverInstances, DiscoverInstancesRevision
    background.py   GetOperation, ListOperations: what AWS does in the background is done at once here
    tags.py         tags of namespaces and registries
    requests.py     ids, filters and pages of requests; pure but for pages
    errors.py       errors of the service, and calls that are refused with a reason

What is stored is in ``controlplane.discovery``. Limits and texts are those of AWS where they are known. Tests:
``tests/unit/controlplane/api/servicediscovery``.
"""
