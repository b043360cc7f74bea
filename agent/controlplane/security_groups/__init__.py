"""Security groups as objects of control: stored, changed, and told to the hosts that need them.

There is one VPC, which all tasks are in; its default group always exists. ``rules`` is pure and says what a
valid rule is, ``stored`` changes groups in the store, ``users`` finds who uses one, and ``group_view``
follows groups and tasks in memory and says what changed for a host after a revision. The calls are in
``api.ec2``; hosts get changes with their orders (``agents.assignments``), which wake up for them.

A new kind of rule, or of peer: ``model.security_groups.GroupRule`` has it, ``rules`` checks it,
``api.ec2.rule_shapes`` reads and shows it, and ``network.groups.compiled`` enforces it.

Source of names and texts: the API reference and the user guides of Amazon EC2 and Amazon VPC.
Tests: ``tests/unit/controlplane/security_groups``, ``tests/unit/controlplane/api/ec2``.
"""
