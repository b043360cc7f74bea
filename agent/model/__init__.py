"""The data types of the agent. Pure data, no I/O; imports only ``agent.errors`` of this project.

::

    task.py      AgentTask, AgentContainer: the record of a task    payload.py  what control orders
    status.py    statuses and their order                           reasons.py  ECS error names and texts
    wire.py      the long poll, with the table of its calls         changes.py  reports
    views.py     what operators see       metrics.py  telemetry.py  resources.py  figures and needs
    liveness.py  by when a loop must have moved again               ids.py  tokens.py  names, token files
    lookups.py   functions that get what control alone has          logs.py  exec.py  logs, sessions

The long poll is level-triggered: an agent that missed everything asks for revision 0, gets the full
set, and converges. A control that was started anew makes every agent do so (410), since its store may
be an older copy. Decoding raises ``msgspec.ValidationError``; callers turn it into an error that names
the sender. Tests: ``tests/unit/model``, and those of whoever uses a type.
"""
