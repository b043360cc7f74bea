"""Calls of Amazon EC2: security groups, and hosts and networks of tasks in its terms.

::

    group_calls.py      CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups
    rule_calls.py       the rules of groups; rule_shapes.py has them in requests and responses
    tag_calls.py        CreateTags, DeleteTags: of groups and rules
    network_calls.py    DescribeVpcs, DescribeVpcAttribute, DescribeSubnets, DescribeAvailabilityZones, DescribeRegions
    interface_calls.py  DescribeNetworkInterfaces: of tasks in ``awsvpc`` mode
    instance_calls.py   DescribeInstances: hosts
    requests.py         tags, filters and pages of requests
    errors.py           errors of EC2

Nothing else of EC2 is served. Groups are in ``controlplane.security_groups``, all else in ``controlplane.vpc``;
names, limits and texts are those of EC2. Tests: ``tests/unit/controlplane/api/ec2``.
"""
