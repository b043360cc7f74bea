"""What a task needs on its host before its containers are made: one module for each kind.

A preparation says what it wants of a payload, does it, undoes it at clean-up, and tells what it gives
to containers (``contract.Preparation``). ``table`` lists them; planner, steps and clean-up treat all of
them alike. To add a kind, write its module and add it to the table.

May touch the container engine through ``HostAccess``, and nothing of the record. Fails with
``PayloadError`` for what can never work, and with what the engine raises. Its tests are in
``tests/unit/engine/preparations``.
"""
