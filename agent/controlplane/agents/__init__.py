"""Registration of agents, their orders and their reports, for both protocols.

::

    longpoll/  amazon/     the two protocols; both use one ``parts.AgentParts``
    registration.py        registers hosts; known_hosts.py: which instance a host was before; machines.py:
                           recognizes one that lost its state, by a key that only its machine can compute
    bindings.py            which host may speak for an instance (pure); bound_hosts.py checks it, and tells of refusals
    incumbents.py          refuses a second host with the identity of one that is connected
    host_attributes.py  lost_orders.py    what a registration says, and what its agent has to be told again
    tokens.py              who may connect: an ``Admission`` is valid while its token is in the file
    assignments.py         the tasks that an instance should run, all of them or since a revision
    reports.py             applies each report once and in order; STOPPED ends the assignment
    moved_tasks.py         tasks that a host still has from before it was registered again
    new_hosts.py           limits new hosts if no token is required
    bounds.py  host_rules.py  report_rules.py    a rule for every field; limits before decoding
    log_rights.py          which log groups a host may write to: those that its tasks name
    leases.py  wakeups.py  which agents are connected; wakes held polls
    quiet_polls.py         polls that are repeated without news: they wait without being read

A report over a limit is refused without affecting others. Reasons are cut, never refused, because the
end of a task must always be reported. May use the store, ``tasks`` and ``definition``; ``amazon`` also the
signatures of ``front`` and shapes of ``api.ecs``. Handlers of both protocols run concurrently.
Tests: ``tests/unit/controlplane/agents``, ``tests/integration/upstream``.
"""
