"""``make chaos``: real processes under random faults, and an oracle that counts from outside.

Control and agents run as their users run them, on an engine that keeps its containers when it dies, on a host
of its own. A plan that is drawn from one seed breaks processes, network, disks, state files and what the
agents made, at the boundaries of their steps, while another plan orders tasks and changes services. In the
end everything is mended; the oracle then compares what was acknowledged with what containers wrote into a
directory of the host and what the engine told, never with what agents or control believe alone.

::

    plan         faults and when they strike: pure, from the seed
    work_plan    orders and changes of services: pure, from the seed
    engine       the Docker Engine of the run
    world        engine, control, agents, their disks and the proxies between them
    containers   what tasks do, and how they are asked for
    proxy        what is between an agent and control
    boundaries   tells when a step begins or ends, from outside
    conductor    lets faults strike, each target's one after the other
    scene        what faults work on, and what they excuse
    faults_*     how each kind strikes and is mended
    workload     makes the orders
    engine_log   what the engine started and ended
    observation  collects what the oracle judges
    oracle       what came of each order: pure
    leftovers    what is still on the host in the end
    history      the time line, and what is printed meanwhile
    evidence     what the history and the logs tell about what went wrong
    report       what is printed in the end
    run          all of it in order

Tests: ``tests/unit/chaos``.
"""
