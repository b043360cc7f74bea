"""The certificate by which control knows this host, and whom this host trusts as control.

::

    key_pair.py     makes a key and a certificate request; a process of its own, because it loads a large library
    files.py        the files in ``identity`` in the data directory, mode 0700; the key never leaves the host
    trust.py        the TLS context towards control: CA file, control's authority, the host's certificate
    host.py         gets a certificate, and renews it while the agent runs
    introduction.py who control's authority is, compared with a fingerprint; for ``join``

A host has one if control's address is ``https://`` and control has an authority; all others have a host key alone. Runs on
one event loop. Tests: ``tests/unit/upstream/certificates``.
"""
