"""Placement: chooses an instance for each copy of a task, by the rules of Amazon ECS.

``placement`` (constraints, strategies), ``host_room`` (what is free on one host), ``query`` (the cluster
query language), ``pattern`` (its regular expressions, in time linear in the text) and ``instance`` are
pure: no I/O, no clock. Only
``fleet.Fleet`` reads the store: it keeps the instances in memory and follows the store with one watch.
A placement with 1000 instances and 5000 tasks takes 3 ms.

The transaction that creates the tasks (``tasks.launch``) compares ``/placement/<instance>`` with what
was read, so concurrent schedulers never overbook, even with an old view. An instance without room is
not an error but gives a reason, in ECS's words.
"""
