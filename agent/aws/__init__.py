"""Calls to AWS: credentials, signing and endpoints. Contains nothing specific to ECS.

::

    http.py                     one aiohttp session; which proxy a URL goes through
    imds.py  ec2_host.py        EC2 instance metadata v2; whether this is an EC2 instance
    credentials.py  keys.py     keys to sign with: kept, refreshed ahead, never a gap
    sources.py  rotating.py  reading.py    where keys come from; read in a thread with a deadline
    signing.py  clock.py        SigV4 by botocore; a clock that learns its skew from AWS's answers
    exchange.py  faults.py      one signed call with retries, keys and time put right; what errors mean
    api.py  query.py  sts.py    JSON 1.1 services; query APIs (EC2, STS); credentials of roles
    places.py  cloud.py         regions and endpoints; all of this room, built once
    parameter_store.py  secrets_manager.py  object_store.py  registry_tokens.py    SSM, S3, ECR ...
    role_keys.py  services.py   ... for tasks: in any region, with the keys of a task's role

Calls raise ``AwsRefused`` (with ``code``), ``AwsUnavailable`` or ``CredentialsMissing``, and with the
keys of a task's role ``CredentialsAwaited``; nothing else.
URLs come from ``signing.wire_url``, encoded as they are signed. An answer that says the signature is
expired or not yet valid teaches the clock and is tried again. Profiles that assume a role or sign in by
SSO are not followed: botocore would load service models. One event loop.
Tests: ``tests/unit/aws``, ``tests/integration/upstream/test_moto.py``.
"""
