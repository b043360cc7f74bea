"""AWS CloudTrail: ``LookupEvents`` over the audit trail. Tests: ``tests/unit/controlplane/api/cloudtrail``."""
