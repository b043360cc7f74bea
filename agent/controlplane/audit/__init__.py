"""The audit trail: who changed what through the APIs of control, as records in CloudTrail's shape.

::

    record.py     which calls are recorded, and the record of one; pure
    masking.py    values that no record may have: by the traits of botocore's models, and by name; pure
    resources.py  the resources that a call is about; pure
    trail.py      takes calls on the event loop, and has a thread write them
    files.py      the file and its rotation
    reading.py    reads the files, newest record first; filters

A record is made and written after the call is answered, in a thread. Whatever happens to the disk, no call fails or
waits for it: records that cannot be written are counted and told. What waits is bounded. Knows no single API.
Tests: ``tests/unit/controlplane/audit``.
"""
