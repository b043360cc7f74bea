"""Placement: which instance each copy of a task goes to, by the rules of Amazon ECS.

``placement`` (strategies), ``query`` (the cluster query language), ``pattern`` (its regular
expressions, in time linear in the text) and ``instance`` are pure: no I/O, no clock. ``fleet.Fleet``
alone reads the store: it holds the instances in memory and follows the store by one watch. A placement
among 1000 instances and 5000 tasks takes 3 ms.

A placement compares ``/placement/<instance>`` as it was read in the transaction that makes the tasks
(``tasks.launch``), so schedulers that run side by side never overbook, however old their reading.
An instance without room is no error but a reason, in ECS's words.
Tests: ``tests/unit/controlplane/scheduler``, ``tests/unit/controlplane/test_races.py``.
"""
