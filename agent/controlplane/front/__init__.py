"""The front of the control endpoint: what every connection passes first.

::

    sites.py  certificate.py      which address serves whom, with or without TLS
    applications.py               what an address serves
    operators.py  keys.py  signatures.py    authentication: by signature, by the owner's Unix socket,
                                  or none with ``--open``
    bodies.py                     reads bodies as sent; decompresses them once the sender is known
    door.py  protocols.py         which AWS service a request is for, and the protocol of that service
    service_api.py                one API: botocore's model (``service_model``) checks a request before
                                  its handler runs, and shapes the response
    noting.py  callers.py         what the audit trail gets of a call, and who made it
    forwarder.py  forward_targets.py  forwarded_names.py  forwarded_errors.py   sends calls of other services on
    codecs/                       the protocols: JSON, query (forms and XML), CBOR
    errors.py  pages.py           ``ApiError``; ``nextToken`` values
    own_calls.py  event_stream.py calls of our own, which no API of AWS has

Signatures cover the bytes that were sent. A call that its headers already rule out is answered without
reading its body. Bodies are decompressed in a thread and up to a limit. Knows no single operations:
``server`` passes it the APIs. Answers every failure in the protocol of the caller.
Tests: ``tests/unit/controlplane/front``, ``tests/integration/controlplane/test_attacks.py``.
"""
