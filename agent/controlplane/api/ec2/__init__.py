"""The calls of Amazon EC2 for security groups: create, delete, describe, authorize, revoke, modify.

Nothing else of EC2 is served. Objects are in ``controlplane.security_groups``, errors in ``errors``; names,
limits and texts are those of EC2. Tests: ``tests/unit/controlplane/api/ec2``.
"""
