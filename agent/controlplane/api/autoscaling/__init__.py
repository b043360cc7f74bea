"""The API of Application Auto Scaling, for the desired count of ECS services.

::

    targets.py     RegisterScalableTarget, DeregisterScalableTarget, DescribeScalableTargets
    policies.py    PutScalingPolicy, DeleteScalingPolicy, DescribeScalingPolicies
    policy_rules.py  what a policy may be; pure
    scheduled_actions.py  PutScheduledAction, DeleteScheduledAction, DescribeScheduledActions
    activities.py  DescribeScalingActivities        tags.py   tags of targets
    listing.py     pages of policies and scheduled actions
    naming.py      resource ids and ARNs; pure       errors.py   errors of the service

The calls only write what is wanted; ``controlplane.scaling`` scales. Tests:
``tests/unit/controlplane/api/autoscaling``.
"""
