"""The API of AWS STS: GetCallerIdentity, and AssumeRole for roles that are kept here.

Tests: ``tests/unit/controlplane/api/sts``.
"""
