"""Amazon ECS as control: registration, ACS, state changes, TCS, and the life of an EC2 host.

::

    backend.py  client.py   the connection to AWS and whose state is opened; all parts in one TaskGroup
    identity.py             state of another instance or machine is put aside, the host registers anew;
                            never within one boot, so that no running task is lost
    registration.py offer.py refusals.py    the request, its retries, and what a refusal means
    poll_endpoint.py websocket.py frames.py calls.py    where sessions are served, and how
    acs/  submit/  tcs/     orders, reports, telemetry
    attachments.py          ENIs and volumes: expected, seen, reported, dropped; rows before the ack
    ec2/                    spot notices, warm pools, instance tags, proof of identity

Orders are never a full set; what a manifest does not name is asked after and stopped when ECS says so.
A task that cannot be read is reported STOPPED. A control that went back is ours, known by a file
beside the store; its answers then stop nothing that it may have forgotten.
Role credentials stay in memory. Uses ``agent.aws`` for every call. Fails as ``agent.upstream``
says. The same code speaks to our own control endpoint. Source: Amazon ECS agent 1.105.1.
Tests: ``tests/unit/upstream/amazon``, ``tests/integration/ecs`` (against ``tests/backend``).
"""
