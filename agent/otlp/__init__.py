"""Sends metrics to a collector by OTLP, the protocol of OpenTelemetry. Loaded only if it is on.

::

    mapping.py     a snapshot as an ``ExportMetricsServiceRequest`` in JSON (pure)
    semantics.py   names, units and attributes by OpenTelemetry's semantic conventions, in tables
    exporter.py    the timer, a bounded queue, and retries

No library: OpenTelemetry's SDK for Python would add protobuf, requests, threads and 20 MB to the agent, and a
second to its start. What is needed here is a table and one POST.

Reads nothing itself, and raises nothing: a request that the collector does not accept is sent again, or
dropped, counted and logged. Tests: ``tests/unit/otlp``.
"""
