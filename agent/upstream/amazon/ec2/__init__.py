"""Features of EC2 instances: facts from instance metadata, tags, warm pools, spot notices.

Reads instance metadata and the EC2 API through ``agent.aws``. What cannot be read is logged now and
then and read again later. A spot notice drains the instance. Tests:
``tests/unit/upstream/amazon/ec2``, ``tests/integration/ecs/test_ec2.py``.
"""
