"""AWS APIs for operators: one package for each, named like its service.

``table`` lists them; routing, signatures and docs use this table. Each package has a module for each
kind of resource with a table ``HANDLERS`` (``parts.Handler``), and ``operations`` merges them.
``translation`` turns errors of stores into those of the service by a table; ``name_pages`` lists records
by name; ``tag_lists`` reads and shows tags. botocore's model checks requests and shapes responses (``front.service_model``).

May use all of the control plane except the agents' protocols. Handlers fail with
``front.errors.ApiError``. Tests: ``tests/unit/controlplane/api``.
"""
