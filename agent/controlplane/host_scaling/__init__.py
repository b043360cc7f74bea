"""Adds hosts for tasks that find no room, and removes those that have none: managed scaling of capacity providers.

An Auto Scaling group is here a number of hosts that a program of the operator's keeps (``hooks``). For each cluster
and each of its capacity providers with managed scaling, ``decision`` says how many hosts there should be, from the
tasks that wait (``demand``) and the hosts that are there. The program is told, again and again until that number has
registered (``caller``, ``program``). A host is only removed when it is empty: it is set to DRAINING in the
transaction that records its removal, which compares that nothing was placed there; the program is told afterwards.

What is decided is in the store (``record``), so that a restart at any moment goes on with it. The program is told what
should be, not what to do, and may be told the same twice.

``loop`` is woken by changes of the store and by times, and also places the tasks that wait (``placing``). It raises
nothing: what fails is logged and tried again.

Tests: ``tests/unit/controlplane/host_scaling``.
"""
