"""Metrics on their way to a collector by OTLP, the protocol of OpenTelemetry. Loaded only if it is on.

::

    mapping.py     a snapshot as an ``ExportMetricsServiceRequest`` in JSON (pure)
    semantics.py   names, units and attributes by OpenTelemetry's semantic conventions, in tables
    exporter.py    the timer, a bounded queue, and retries

Own code and no library: OpenTelemetry's SDK for Python would add protobuf, requests and threads of its own to
the agent, 20 MB and a second to its start, to send what is here a table and one POST.

Reads nothing itself. Fails towards nobody: what a collector does not take is sent again, and after a while
dropped, counted and logged. Tests: ``tests/unit/otlp``.
"""
