"""A part of the API of AWS Secrets Manager, on the secrets that control keeps.

::

    secrets.py     create, put, get, describe, list (also versions), delete and restore
    changes.py     update, move stages, tag
    errors.py      errors of the service
    operations.py  all of them

What the service has and is not done here is refused by the parameter's name.
Tests: ``tests/unit/controlplane/api/secretsmanager``.
"""
