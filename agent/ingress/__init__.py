"""The ingress of a host: runs HAProxy as control's load balancers say (``ecs-agent ingress``).

::

    quoting.py        pure: any text as a word of HAProxy's configuration
    configuration.py  pure: listeners, groups and targets as HAProxy's configuration
    figures.py        pure: HAProxy's statistics as the health of targets
    servers.py        pure: which commands make a running HAProxy's servers those that are wanted

Listeners, rules, weights and groups are in the configuration, so a change of them is a reload, in which the
master process hands the listening sockets on. Targets come and go by the runtime API, without a reload.

May use ``config``, ``errors`` and ``model``. Tests: ``tests/unit/ingress``.
"""
