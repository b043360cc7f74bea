"""The APIs of AWS that operators drive control with: one package for each, named as its service.

``table`` lists them; front, signatures and docs follow from it. Each package has a module for each
kind of thing with a table ``HANDLERS`` (``parts.Handler``), and ``operations`` puts them together.
Requests come checked by botocore's model and answers are shaped by it (``front.service_model``).

May use everything of the control plane but the agents' wires. Handlers fail with
``front.errors.ApiError``. Tests: ``tests/unit/controlplane/api``.
"""
