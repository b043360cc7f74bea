"""Amazon's protocol on our control endpoint: the agent-facing calls, ACS and TCS.

::

    wire.py                      everything together, around ``AgentParts``; the two upgrades
    calls.py                     the calls of agents, passed on by ``front.service_api``
    registering.py submitted.py  a request -> ``Register``, a request -> ``TaskChange`` (pure)
    signatures.py                SigV4 with a token of the file as the secret key
    sockets.py                   admission and budgets of websockets; an instance's newest one wins
    shapes.py                    frames in and out (pure)
    acs.py  deliveries.py        one connection; which orders are open, taken, or due again (pure)
    manifests.py                 all assigned tasks, and which tasks an agent may stop
    tcs.py                       stores health; checks and drops metrics

Orders are level-triggered: first the orders that the agent is not known to have, then a manifest.
Amazon's agent does not get a task again that it has reported; ours does, after a restart. The timeline
of a manifest is the clock in milliseconds, but always above the last stored one; ``seqNum`` of orders is
the revision. Only permanent errors are an ``InvalidParameterException``, for which an agent drops a
change; it repeats a change after any other error. Frames are not signed: their connection was, and it is
closed with 1001 when its token is removed. ``docs/amazon-ecs.md`` describes our extensions.
Source: Amazon ECS agent 1.105.1 (``ecs-agent/acs``, ``ecs-agent/tcs``, ``ecs-agent/api/ecs``).
Tests: ``tests/unit/controlplane/agents/amazon``, ``tests/integration/ecs_go``.
"""
