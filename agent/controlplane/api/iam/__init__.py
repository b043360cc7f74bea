"""The API of IAM: roles and their policies.

::

    roles.py      CreateRole, GetRole, ListRoles, UpdateRole, UpdateAssumeRolePolicy, DeleteRole, and tags
    policies.py   managed policies of a role, and its own
    requests.py   names, tags and pages of requests
    errors.py     errors of IAM, and calls that are refused with a reason

Roles are stored (``controlplane.iam``) and shown, so that what creates them and names their ARNs works. They
permit nothing here: who may call is decided by control's keys, and a task gets the credentials of roles of AWS.
Tests: ``tests/unit/controlplane/api/iam``.
"""
