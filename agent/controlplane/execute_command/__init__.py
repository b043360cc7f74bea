"""Commands that operators run in containers by ``ExecuteCommand``: who may open a session, and what it carries.

::

    frames.py     the messages of session-manager-plugin as bytes        stream.py  their order, and what is lost
    sessions.py   sessions, the tokens that open them, the orders to agents
    channel.py    the WebSocket of clients        plugin.py, direct.py  what a client speaks on it
    agent_link.py the WebSocket of the agent      transcript.py  output that a cluster wants logged

An operator gets a token for one session (``api.ecs.execute_command``). Whoever opens the session's WebSocket
with it makes control tell the agent of the task's host, by its held poll, to connect too; then both are
joined. So agents need no port of their own. A session ends with its command, its client, its agent, or
control; nothing of it is stored, and of what passes nothing is logged but what a cluster's configuration asks
for. For one event loop. Tests: ``tests/unit/controlplane/execute_command``.
"""
