"""The control endpoint: AWS APIs for operators, a scheduler, the agents' protocols and the store.

::

    server/        builds everything around one store; ``serving.serve`` is the only entry point
    front/         accepting calls: TLS, authentication, routing to an API, errors
    api/           one package for each API of AWS
    definition/    task definitions as data, and the payload that an agent gets
    tasks/         the life of a task here       scheduler/  placement
    services/      keeps the wanted number of tasks running: deployments, events, health
    scaling/       changes that number by metrics, alarms and the clock
    schedules/     runs tasks at times             events/     sends changes to a webhook
    loadbalancing/ load balancers, rules, target groups and the health of targets
    discovery/     names by which tasks find each other
    security_groups/  rules of task networks       vpc/        hosts and networks in terms of EC2
    fleet_network/ a range of task addresses for each host
    agents/        registration, orders and reports, with two protocols
    console/       a page for browsers, which calls the APIs and is told what has changed
    roles/         credentials of the roles that tasks name, from STS
    iam/           users and roles that operators create, with their policies
    audit/         records of calls in CloudTrail's shape, in files that rotate
    secrets/       parameters and secrets that control keeps, encrypted
    store/         the contract of the store, and its implementation with SQLite
    monitoring/    metrics of control and scrape targets, for Prometheus
    log_store/     log events of tasks, stored separately from the keys; log_forward/ sends them on
    metric_store/  usage of tasks and hosts: the newest, and points of minutes
    records.py     every kind of value and every key in one table; ``names`` makes and parses ARNs
    access.py      finds, scans and changes records; ``change`` is the one retry of compare-and-set

The tasks that an instance should run are the keys under ``/assign/<instance>/``; payloads are not
stored but built at each poll. A store that was replaced by an older copy begins a new history
(``history``): agents notice that, keep their tasks, and report all of them before a full set may stop
any.

A process of its own; imports nothing that the agent process runs. Runs on one event loop; several
processes may change the store at once, because every transaction compares what it has read.
Tests: ``tests/unit/controlplane``, ``tests/integration/controlplane``.
"""
