"""Decides whether a host's own policy (``config.host_policy``) lets a task run here.

Control cannot override it: the agent asks before it accepts a task, and again with the request that goes
to the engine. Pure but for ``resolving``, which asks the file system where paths lead; what it found is
passed to the rules. Whatever a rule cannot read counts as refused.

::

    request.py     the create request of a container: every member, known and unknown
    namespaces.py  mounts.py  volumes.py  security.py  images.py  sizes.py    its parts
    paths.py       paths of the host            resolving.py   where they lead
    own.py         what the agent itself adds to a request, which no rule is about
    findings.py    what a refusal says

Imports ``config``, ``errors``, ``images.reference`` and ``model``. ``engine.host_policy_gate`` uses it.

Tests: ``tests/unit/host_policy``.
"""
