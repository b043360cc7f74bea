"""HTTP servers that unknown senders can reach, with limits on what each of them may use.

``server.HttpServer`` serves an aiohttp application: control's addresses, the agent's metrics, and
both Unix sockets. Each turn of the event loop accepts a few connections and adds them to the
server's ``ConnectionTable``. Until its first byte arrives, a connection is only a socket: neither
aiohttp nor TLS has started on it.

A connection is a stranger's until a handler calls ``connection.prove(request)``, after it has
verified a key, token or signature. A stranger gets one request, ten seconds to send its head, and
rate-limited answers. When connections must be closed, strangers' go first, starting with the
address that has the most. ``rates`` limits how often something is done or logged. ``repeats`` lets a
request that comes again, byte for byte, wait without being read.

Imports nothing else of the agent and raises no exceptions of its own: a sender's mistake becomes an
error response and one log line. Belongs to one event loop. Tests: ``tests/unit/listening``,
``tests/integration/controlplane/test_attacks.py``.
"""
