"""Forwarding of log events: all that the log store takes goes on to CloudWatch Logs or Loki.

::

    targets.py      what the option says: ``cloudwatch:REGION`` or the URL of Loki
    forwarder.py    reads the store in the order of taking, sends, moves a cursor in the store
    chunks.py       what is sent: the events of one stream; what became of it
    cloudwatch.py  loki.py    the two kinds of destinations

What was not delivered is sent again until it is, or refused for good, which is told in the log. The cursor
moves when a window is delivered: a restart sends one window again at most. A destination that is away
holds nothing up; what falls out of the store meanwhile is counted and told. Uses ``agent.aws`` for signing.
Tests: ``tests/unit/controlplane/log_forward``, ``tests/integration/controlplane/test_log_forward.py``.
"""
