"""The door of the control endpoint: what every connection meets first.

::

    sites.py  certificate.py      which address serves whom, with or without TLS
    applications.py               what an address serves
    operators.py  keys.py  signatures.py    who commands: a signature, the owner's Unix socket, or
                                  everybody with ``--open``
    bodies.py                     read as they were sent, inflated once their sender is known
    door.py  protocols.py         which service of AWS a request is for, and how that one speaks
    json_api.py                   JSON 1.1: a request is checked by botocore's model (``service_model``)
                                  before its handler, and the answer is shaped by it after
    errors.py  pages.py           ``ApiError``; ``nextToken`` values

Signatures are of the bytes that were sent. A call whose head cannot be let in is answered before its
body is read, and a body is inflated in a thread and up to a limit. Knows nothing of single operations:
``server`` hands it the APIs. Answers every failure in the protocol of whoever asked.
Tests: ``tests/unit/controlplane/front``, ``tests/integration/controlplane/test_attacks.py``.
"""
