"""Resource usage of tasks and the host: control groups, links, GPUs; and the metrics of them.

::

    sampler.py        the timer: ``latest``, ``before``, ``subscribe``, ``poke`` (a round now)
    collector.py      one round, in a thread; ``known.py`` is what it keeps for the next one
    idle_watch.py     what to read of an idle task, to know that its last sample still holds
    targets.py        what a round reads
    cgroup.py         the files of a container, which stay open
    cgroup_texts.py   what they say (pure)
    docker_stats.py   a sample in the shape of the engine's own statistics (pure)
    continuity.py     counters that go on when a container is restarted (pure)
    task_networks.py  the network namespaces of a task; ``links.py`` reads one of them
    host_ends.py      which namespaces had no traffic, and need not be read again
    host.py           the host, through files that stay open; ``host_texts.py`` says what they mean
    gpu.py            NVIDIA GPUs, in a thread of its own
    prometheus.py     everything that the agent shows, as families of metrics (pure)
    agent_families.py, host_families.py, container_families.py  tables of metrics with type and help

A figure that the kernel does not have is None, never 0. Counters of a container never decrease while
the agent runs. ``/proc/<pid>/net/dev`` does not stay open, since it would keep the namespace alive; it
shows the namespace of that process, so no ``setns`` is needed. Only reads; what is gone is left out of
the round. Each round says what it cost (``RoundCost``).
Tests: ``tests/unit/metrics``, ``tests/integration/metrics``.
"""
