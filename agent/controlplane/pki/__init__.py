"""Control's own authority, its server certificate, and the certificates of hosts.

::

    names.py        how identities and control are named in certificates (pure)
    authority.py    the authority's key and certificates: files, signing (``cryptography``; blocks)
    requests.py     which certificate requests of hosts are signed (pure)
    identities.py   the identities of hosts: issued, renewed, revoked; in the store
    server_tls.py   the TLS context of control's addresses, whose certificate is renewed while it serves

The files are in ``pki`` in control's data directory, mode 0700; keys have mode 0600 and never leave it. Fails with
``ConfigError`` for files that cannot be used, with ``RequestRefused`` for requests that are not signed.
May use the store and ``agents.bindings``. Tests: ``tests/unit/controlplane/pki``.
"""
