"""Users and roles of IAM that operators create here, and whose keys are accepted.

::

    role_records.py   roles as they are stored, and their keys in the store
    user_records.py   users with their access keys, and the key that sessions are sealed with
    documents.py      pure: what a policy document must be
    managed.py        pure: the managed policies of AWS that a user or role can have
    stored.py         finds and changes roles in the store; each change is one transaction
    users.py          the same for users
    sessions.py       temporary keys of roles, whose token says what they are
    directory.py      all of it in memory, followed from the store: the secret and the policies of a key

What policies mean is in ``controlplane.authorization``. Credentials that tasks get of roles are issued by
``controlplane.roles``, from here for roles that are kept here, else from AWS.

May use the store, ``access``, ``authorization``, ``names``, ``records`` and ``secrets``. Raises what these raise, and
the errors of each module. Tests: ``tests/unit/controlplane/iam``, ``tests/unit/controlplane/api/iam``.

Source of rules and texts: IAM API reference; "IAM and AWS STS quotas" in the IAM user guide.
"""
