"""Our control endpoint as Amazon's agent meets it: the agent-facing calls, ACS and TCS.

Source of the wire: Amazon ECS agent 1.105.1 (``ecs-agent/acs``, ``ecs-agent/tcs``,
``ecs-agent/api/ecs``). Hosts that come this way stand beside those of the long poll.
"""
