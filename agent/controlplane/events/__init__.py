"""Events of tasks, container instances, services and deployments, as Amazon EventBridge has them.

Nothing is written for an event: what the store commits is the event. A reader follows the store's changes
from a revision, and ``changes`` tells which events each of them is. The number of an event's revision is
its place, from which a reader resumes for as long as the store keeps its history (``janitor``). Without
a reader there is no work.

``front.event_stream`` serves readers, ``webhook`` sends all events to one address. Reads the store; only
``webhook`` writes, its place. Tests: ``tests/unit/controlplane/events``.
"""
