"""The API of AWS STS: GetCallerIdentity.

Tests: ``tests/unit/controlplane/api/sts``.
"""
