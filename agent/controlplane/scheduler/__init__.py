"""Placement: chooses an instance for each copy of a task, by the rules of Amazon ECS.

``placement`` (constraints, strategies, the rules for one host), ``host_room`` (what is free on one host), ``pool`` (the
hosts of a cluster), ``host_index`` (their order and their parts), ``search`` (finds the best hosts and looks at few),
``query`` (the cluster query language), ``pattern`` (its regular expressions, in time linear in the text) and
``instance`` are pure: no I/O, no clock. Only ``fleet.Fleet`` reads the store: it keeps the instances in memory and follows
the store with one watch, so that it sees what other processes have written, too.
What a placement costs does not grow with the number of hosts, as long as one of a few dozen hosts with enough CPU and memory fits.

The transaction that creates the tasks (``tasks.launch``) compares ``/placement/<instance>`` with what
was read, so concurrent schedulers never overbook, even with an old view. An instance without room is
not an error but gives a reason, in ECS's words.
"""
