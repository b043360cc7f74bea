"""Which permission each served call needs, and on which resources. Pure.

::

    rows.py       what a row is, and what rows are made of
    ecs.py        Amazon ECS
    identity.py   IAM and STS
    observed.py   CloudWatch Logs and CloudWatch
    kept.py       Parameter Store and Secrets Manager
    networks.py   EC2, load balancers, Cloud Map
    timed.py      EventBridge, its Scheduler, Application Auto Scaling
    table.py      all of them; a call without a row needs its action on ``*``

Members of a request are those that the model of its service has checked. Resources are named as the handlers
understand them: a short name gets the ARN of this control endpoint, an ARN stays what it is, because handlers
refuse those of others.

Source: the Service Authorization Reference.
"""
