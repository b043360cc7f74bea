"""One module per check: ``check`` reads the host, and ``judge`` decides as a pure function.

``check`` reads through ``doctor.reading`` and ``doctor.host`` alone, ``judge`` returns
``findings.Finding`` objects, each with what was seen and its mend. What cannot be read is a finding and no
exception. To add one, write the module and add a line to ``examine.CHECKS``.
Tests: ``tests/unit/doctor/checks``.
"""
