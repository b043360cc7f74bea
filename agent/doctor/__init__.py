"""Checks of a host, before and after it joins: each gives ok, warning or error, with its fix.

::

    examine.py    runs the table ``CHECKS`` side by side, each check with a deadline
    checks/       one module per check: ``check`` reads, ``judge`` decides (pure)
    reading.py    files, programs and sockets, each with a deadline
    host.py       ``HostFacts``: settings, and what is asked of engine and agent once for all checks
    probe.py      tries kernel features in the network namespace of a child process
    bundle/       the support archive

Reads the host and changes nothing. A check that breaks or hangs is a warning of its own and does not
affect the others. Only errors, what keeps tasks from running, make the command fail.
Never imported by the agent process. Tests: ``tests/unit/doctor``, ``tests/integration/doctor``.
"""
