"""Secrets that control keeps for sites without AWS: parameters and secrets as AWS's APIs know them.

::

    key_file.py     the keys that encrypt them, in a file of mode 0600; several, so that they can be changed
    sealing.py      AES-GCM with the kind, name and version bound to each value (pure)
    keeper.py       one object for keys and values: seals what is stored, opens what is read, changes keys
    parameters.py   parameters, as Parameter Store has them
    stored.py       secrets with versions, as Secrets Manager has them
    task_values.py  the values that a task's definition names

Values are in the store as ciphertext only (``secret_records.ParameterRecord``, ``secret_records.SecretRecord``); names,
descriptions and times are not secret. A value that was sealed for one name or version opens for no other.
Without the key file nothing can be opened: back it up, apart from the store.

May use the store. Raises ``SecretsFailure`` for keys that are missing or damaged values, what the store
raises, and the errors of each module; no text has a value in it.
Tests: ``tests/unit/controlplane/secrets``, ``tests/unit/controlplane/api/ssm``,
``tests/unit/controlplane/api/secretsmanager``.
"""
