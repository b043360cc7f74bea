"""Load balancers, listeners, rules and target groups: what is stored, and pure rules about it.

::

    balancer_records.py  what is stored, and its keys
    naming.py            ARNs of Elastic Load Balancing, made and parsed
    forwarding.py        pure: the rules of a listener, and the target groups that they forward to
    health.py            pure: the health of a target, by what each ingress reports, if there is one
    balancer_view.py     listeners, targets and what ingresses report, in memory
    ingress_truth.py     pure: records as an ingress knows them
    ingress_view.py      what ingresses are told, in memory, with a number for each change
    named_records.py     creates, changes and lists records that have names
    stored.py            finds and changes all of it in the store; each change is one transaction

A listener is stored with its rules, so that priorities stay unique and weights change at once. A target group
that a listener or a service uses cannot be deleted: whoever begins to use it puts a key that the deletion
compares. Targets have a key each.

An *ingress* is a proxy (``agent.ingress``) that asks control what to do (``agents.longpoll.ingress_calls``). What it
reports is under its lease. Without one, nobody looks at targets, and services go by the health of containers.

May use the store, ``access``, ``names`` and ``records``. Fails with what the store raises, and with the errors of
``stored`` and ``named_records``. Tests: ``tests/unit/controlplane/loadbalancing``.

Source of rules and texts: Elastic Load Balancing API reference, "Target groups for your Application Load
Balancers" and "Health checks for Application Load Balancer target groups".
"""
