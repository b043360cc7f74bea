"""Roles of IAM that operators create here: what is stored, and pure rules about policies.

::

    role_records.py   what is stored, and its keys
    documents.py      pure: what a policy document must be
    managed.py        pure: the managed policies of AWS that a role can have
    stored.py         finds and changes roles in the store; each change is one transaction

Roles are kept and shown. Nothing here permits or forbids anything by them, and they are not the roles whose
credentials tasks get (``controlplane.roles``), which are those of AWS.

May use the store, ``access``, ``names`` and ``records``. Tests: ``tests/unit/controlplane/api/iam``.

Source of rules and texts: IAM API reference; "IAM and AWS STS quotas" in the IAM user guide.
"""
