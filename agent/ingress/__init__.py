"""The ingress of a host: runs HAProxy as control's load balancers say (``ecs-agent ingress``).

::

    quoting.py        pure: any text as a word of HAProxy's configuration
    configuration.py  pure: listeners, groups and targets as HAProxy's configuration
    figures.py        pure: HAProxy's statistics as the health of targets
    servers.py        pure: which commands make a running HAProxy's servers those that are wanted
    runtime.py        commands to HAProxy, and their answers
    process.py        HAProxy as a child: check, start, reload, stop
    health_log.py     notes that the health of a server has changed
    link.py           the connection to control
    proxy.py          keeps HAProxy as control wants it, and control informed
    service.py        all of it as one process

Listeners, rules, weights and groups are in the configuration, so a change of them is a reload, in which the
master process hands the listening sockets on. Targets come and go by the runtime API, without a reload.

Whatever fails is tried again, and meanwhile HAProxy goes on with what it has. May use ``config``, ``errors``,
``model`` and ``upstream``. Tests: ``tests/unit/ingress``, ``tests/integration/ingress``.
"""
