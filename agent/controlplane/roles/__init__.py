"""Credentials of the roles that tasks name: got from STS, given to agents, renewed in time.

::

    needed.py     which roles of a definition are needed, and by what (pure)
    contract.py   what the rest of control knows of all this
    sts.py        AssumeRole, with keys of control's own from where every program of AWS finds them
    settings.py   where those keys are found, and how long credentials are valid
    issuer.py     one life for each role of each task: asked for, given out, renewed, given up
    words.py      what people are told (pure)

Credentials live in memory alone: never in the store, a log or a text. What the store has of a role is its
ARN and the id by which containers ask for its credentials (``records.RoleRecord``), so that a control
that starts anew gives the running tasks fresh ones under the same ids.

STS that is away is asked again for as long as a task wants something of it. STS that refuses a role ends
the task that has not started yet, with the reason; one that runs goes on. Neither holds up other
tasks, nor renewals the tasks that wait for their first.

May use ``aws``, the store, ``tasks``. Tests: ``tests/unit/controlplane/roles``,
``tests/integration/controlplane/test_roles.py``.
"""
