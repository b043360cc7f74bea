"""Reports to Amazon ECS: their requests (``shapes``), which are unnecessary (``merge``), sending.

The only consumer of the outbox. Per task one request is in flight, in order; ten tasks in parallel
(``sender``). Waiting reports of one task with the same status become one request; a report that
would change nothing for ECS is not sent. ``InvalidParameterException`` settles a row; after any
other error it is retried for ever. A report of another region or account is tried only once, and
then kept for its own control. ``shapes`` and ``merge`` are pure. Tests:
``tests/unit/upstream/amazon/submit``.
"""
