"""Things that a task needs on its host before its containers are created: one module for each kind.

A preparation says whether a payload needs it, does it, undoes it at clean-up, and returns what it
provides for containers (``contract.Preparation``). ``table`` lists all of them; planner, steps and
clean-up treat them the same way. To add a kind, write its module and add it to the table.

May access the container engine through ``HostAccess``, but not the record. Fails with
``PayloadError`` for what can never work, and with the errors of the engine. Tests:
``tests/unit/engine/preparations``.
"""
