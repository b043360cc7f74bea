"""Things that a task needs on its host before its containers are created: one module for each kind.

A preparation says whether a payload needs it, does it, undoes it at clean-up, and returns what it
provides for containers (``contract.Preparation``). ``table`` lists all of them; planner, steps and
clean-up treat them the same way. To add a kind, write its module and add it to the table.

::

    volumes.py  efs.py            volumes that the engine makes for the task
    secrets.py  secret_references.py    values of Parameter Store, Secrets Manager, control
    environment_files.py          variables from files in S3
    execution_role.py  together.py    the credentials by which AWS is asked; calls side by side
    awslogs.py  firelens.py       where the log driver writes; the files of a log router
    task_cgroup.py  namespaces.py    the control group, and the namespaces, that containers share

May access the container engine, AWS and control through ``HostAccess``, but not the record. What is
fetched stays in memory (``Provision``) and goes into the create body alone. Fails with
``PayloadError`` for what can never work, with the errors of the engine, and with what is waited for
(``CredentialsAwaited``, ``ControlUnavailable``). Tests: ``tests/unit/engine/preparations``.
"""
