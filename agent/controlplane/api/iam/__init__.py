"""The API of IAM: users and roles, their keys and policies.

::

    roles.py      CreateRole, GetRole, ListRoles, UpdateRole, UpdateAssumeRolePolicy, DeleteRole, and tags
    policies.py   managed policies of a role, and its own
    users.py      CreateUser, GetUser, ListUsers, DeleteUser, and tags
    access_keys.py    CreateAccessKey, UpdateAccessKey, ListAccessKeys, DeleteAccessKey
    user_policies.py  managed policies of a user, and its own
    requests.py   names, tags and pages of requests
    errors.py     errors of IAM, and calls that are refused with a reason

A change counts for the next call: it is read back into the directory (``iam.directory``) before it is answered.
Tests: ``tests/unit/controlplane/api/iam``.
"""
