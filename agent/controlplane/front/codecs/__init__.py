"""How calls of an API travel: each protocol reads requests into, and writes answers from, the same values.

::

    contract.py    what a protocol does        table.py    which one a request is in
    json_rpc.py    awsJson 1.0 and 1.1         query.py    awsQuery: forms in, XML out
    cbor_rpc.py    rpcv2Cbor                   cbor.py     CBOR itself (RFC 8949)

All follow botocore's model of the API; none knows an API or an operation. What was read is as JSON has it
(times are Unix seconds, binary is base64), and is checked by ``service_model`` like JSON. Pure.

Sources: the Smithy specifications of awsJson1_0, awsJson1_1, awsQuery, awsQueryCompatible and rpcv2Cbor; what botocore
writes and parses. Tests: ``tests/unit/controlplane/front/test_codecs.py``.
"""
