"""An Amazon ECS back end for tests, written from the wire alone: it shares no code with the agent.

``backend.Backend`` is all of it: the API, the two websockets (orders and telemetry) and what a test
says should go wrong. ``imds.FakeImds`` is the metadata service of an EC2 host. ``oracle`` judges
afterwards what the agent sent.
"""
