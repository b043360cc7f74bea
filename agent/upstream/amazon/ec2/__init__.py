"""What only EC2 instances have: metadata facts, tags, warm pools, spot notices.

Reads instance metadata and the EC2 API through ``agent.aws``; what cannot be read is logged once in a
while and asked again. A spot notice drains the instance. Tests: ``tests/unit/upstream/amazon/ec2``,
``tests/integration/ecs/test_ec2.py``.
"""
