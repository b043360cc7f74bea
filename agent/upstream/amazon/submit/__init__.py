"""State changes towards Amazon ECS: what is told (``shapes``), what needs none (``merge``), sending.

One consumer of the outbox. Per task one request is in flight, in order; ten side by side
(``sender``). Waiting changes of one task with the same status are one request; what ECS would see
no difference in is not sent. ``InvalidParameterException`` settles a row, anything else is tried for
ever, but for a report of another region or account: it is tried once and stays for its own control.
``shapes`` and ``merge`` are pure. Tests: ``tests/unit/upstream/amazon/submit``.
"""
