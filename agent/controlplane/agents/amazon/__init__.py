"""Our control endpoint as Amazon's agent meets it: the agent-facing calls, ACS and TCS.

::

    wire.py                      all of it, around ``AgentParts``; the two upgrades
    calls.py                     the calls of agents, handed over by ``front.json_api``
    registering.py submitted.py  a request -> ``Register``, a request -> ``TaskChange`` (pure)
    signatures.py                SigV4 with a token of the file as the secret key
    sockets.py                   who may open a websocket, budgets; an instance's newest one wins
    shapes.py                    frames in and out (pure)
    acs.py  deliveries.py        one connection; which orders are open, taken, due again (pure)
    manifests.py                 all that is wanted, and what an agent may stop
    tcs.py                       health is kept, figures are checked and dropped

Orders are level-triggered: what is wanted and not known to be held, then a manifest. Amazon's agent is
not given a task again that it reported; one of ours is, after its restart. A manifest's timeline is the
clock's milliseconds and never less than the stored last one; ``seqNum`` of orders is the revision.
Only what can never be taken is an ``InvalidParameterException``, at which an agent drops a change;
anything else it repeats. Frames are not signed: they come by a connection that was, and that is closed
with 1001 when its token is withdrawn. ``docs/amazon-ecs.md`` has what is ours beyond the reference.
Source: Amazon ECS agent 1.105.1 (``ecs-agent/acs``, ``ecs-agent/tcs``, ``ecs-agent/api/ecs``).
Tests: ``tests/unit/controlplane/agents/amazon``, ``tests/integration/ecs_go``.
"""
