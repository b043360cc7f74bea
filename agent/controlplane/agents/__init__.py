"""What control gives to agents and takes from them, whichever wire they come by.

::

    longpoll/  amazon/     the two wires; both work with one ``parts.AgentParts``
    registration.py        who an agent is, for this call and later ones; machines.py: a host that lost
                           its state is known by its machine and a key that only that machine can make
    tokens.py              who may speak: an ``Admission`` lasts as long as its token is in the file
    assignments.py         what is wanted of an instance, whole or since a revision
    reports.py             each applied once and in order; one that says STOPPED ends the assignment
    moved_tasks.py         tasks that a host holds from before it was registered anew
    new_hosts.py           how many unknown hosts may register where no token is asked for
    bounds.py  host_rules.py  report_rules.py    a rule for every field, before a body is decoded
    log_rights.py          which log groups a host may write to: those that its tasks name
    leases.py  wakeups.py  who is connected; wakes held polls

A report beyond a bound is refused alone; reasons are cut, never refused, since the end of a task must
get through. Whoever registers as an instance without its token or its machine's key is not let in as it.
May use the store, ``tasks`` and ``definition``; ``amazon`` also the signatures of ``front`` and shapes of
``api.ecs``. Handlers of both wires run side by side. Tests: ``tests/unit/controlplane/agents``, ``tests/integration/upstream``.
"""
