"""The calls of Elastic Load Balancing for load balancers, listeners, rules, target groups and targets.

Objects are in ``controlplane.loadbalancing``, errors in ``errors``; names, limits and texts are those of Elastic
Load Balancing (the API of 2015-12-01). What is not served, such as TLS, is refused by name.
Tests: ``tests/unit/controlplane/api/elbv2``.
"""
