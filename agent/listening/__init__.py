"""HTTP servers that strangers may reach: they bound what an unknown sender can take.

``server.HttpServer`` serves an aiohttp application: control's addresses, the agent's figures, both Unix
sockets. It accepts a few connections in a turn of the event loop, and each is an entry of its
``ConnectionTable`` from then on. One by which nothing has come is no more than a socket: neither aiohttp
nor TLS begin before its first byte.

A connection is a stranger's until a handler calls ``connection.prove(request)``, wherever a key, token
or signature was verified. A stranger has one request, ten seconds for a head, and answers no faster
than a rate; it gives way before any proven one, first that of the address that has most. ``rates``
limits how often something is done or logged.

Imports nothing of ours and raises nothing of its own; a sender's mistake is an answer and one line in
the log. Belongs to one event loop. Tests: ``tests/unit/listening``,
``tests/integration/controlplane/test_attacks.py``.
"""
