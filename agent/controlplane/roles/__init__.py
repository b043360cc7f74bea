"""Credentials for the roles of tasks: fetched from STS or made here, sent to agents, renewed in time.

::

    needed.py     which roles of a definition are needed, and by what (pure)
    contract.py   what the rest of control uses
    sts.py        AssumeRole, with control's own AWS keys
    local.py      sessions of roles that are kept here (``iam``)
    settings.py   where those keys are, and how long credentials are valid
    issuer.py     one coroutine for each role of each task: fetches, sends and renews its credentials
    words.py      reasons and errors for people (pure)

Credentials are in memory only: never in the store, a log or a text. The store has the ARN of a role and the id
with which containers request its credentials (``records.RoleRecord``), so after a restart of control, running
tasks get new credentials with the same ids.

If STS cannot be reached, it is tried again for as long as a task needs it. If STS refuses a role, a task that
has not started stops with the reason; a running task keeps running. Neither delays other tasks, and renewals do
not delay tasks that wait for their first credentials.

May use ``authorization``, ``aws``, ``iam``, the store, ``tasks``. Tests: ``tests/unit/controlplane/roles``,
``tests/integration/controlplane/test_roles.py``.
"""
