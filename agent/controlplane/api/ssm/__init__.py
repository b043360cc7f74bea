"""A part of the API of AWS Systems Manager: Parameter Store, on the secrets that control keeps.

::

    parameters.py  put, get, delete and describe
    tags.py        tags of parameters
    names.py       names of parameters, and what an ARN or a version behind a name means (pure)
    errors.py      errors of the service
    operations.py  all of them

Only the newest value of a parameter is kept. What the service has and is not done here is refused by the
parameter's name. Tests: ``tests/unit/controlplane/api/ssm``.
"""
