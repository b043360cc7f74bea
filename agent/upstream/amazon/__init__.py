"""Amazon ECS as control: registration, ACS, state changes, TCS, and events of an EC2 instance.

::

    backend.py  client.py   the connection to AWS, whose state is opened; all parts in one TaskGroup
    identity.py             sets aside the state of another instance or machine, and registers anew;
                            never within one boot, so that no running task is lost
    registration.py offer.py refusals.py    the request, its retries, and the meaning of refusals
    poll_endpoint.py websocket.py frames.py calls.py    where sessions are served, and how
    acs/  submit/  tcs/     orders, reports, telemetry
    attachments.py          ENIs and volumes: expected, seen, reported, dropped; rows before the ack
    ec2/                    spot notices, warm pools, instance tags, proof of identity

Orders are never a full set. For tasks that a manifest does not list, the agent asks, and stops
those that ECS does not want. A task that cannot be read is reported STOPPED. Only our own control
can go back to an older state; a file beside its store says so, and its answers then stop no task
that it may have forgotten. Role credentials stay in memory. All calls go through ``agent.aws``.
Fails as ``agent.upstream`` says. The same code speaks to our own control endpoint. Source: Amazon
ECS agent 1.105.1. Tests: ``tests/unit/upstream/amazon``, ``tests/integration/ecs`` (against
``tests/backend``).
"""
