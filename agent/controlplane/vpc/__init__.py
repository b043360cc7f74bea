"""Control's one VPC: what its hosts and the networks of their tasks are in terms of EC2.

::

    layout.py    pure: subnets, one for each availability zone, with the addresses of the hosts' pools
    seen.py      reads hosts and the interfaces of tasks from the store

Nothing is stored: hosts say their zone and their pool when they register (``InstanceRecord``), and agents report
the interfaces of tasks. The ids of VPC and subnets follow from account, region and zone, and never change.

May use the store, ``access``, ``names``, ``records`` and ``fleet_network``.
Tests: ``tests/unit/controlplane/vpc``.
"""
