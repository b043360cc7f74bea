"""Load balancers, listeners, rules and target groups: what is stored, and pure rules about it.

::

    balancer_records.py  what is stored, and its keys
    naming.py            ARNs of Elastic Load Balancing, made and parsed
    forwarding.py        pure: the rules of a listener, and the target groups that they forward to
    health.py            pure: the health of a target, by what each ingress reports, if there is one
    balancer_view.py     listeners, targets and what ingresses report, in memory
    named_records.py     creates, changes and lists records that have names
    stored.py            finds and changes all of it in the store; each change is one transaction

A listener is stored with its rules, so that priorities stay unique and weights change at once. A target group
that a listener or a service uses cannot be deleted: whoever begins to use it puts a key that the deletion
compares. Targets have a key each.

No proxy is part of this version. What is kept for one, an *ingress*, is the health of targets that it would put
under a lease, because the health of services' tasks is decided by it; nothing but tests puts it.

May use the store, ``access``, ``names`` and ``records``. Fails with what the store raises, and with the errors of
``stored`` and ``named_records``. Tests: ``tests/unit/controlplane/loadbalancing``.

Source of rules and texts: Elastic Load Balancing API reference, "Target groups for your Application Load
Balancers" and "Health checks for Application Load Balancer target groups".
"""
