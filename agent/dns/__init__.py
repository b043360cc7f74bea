"""Answers names of tasks in DNS, for the tasks of this host. Loaded once control has such names, not before.

::

    message.py     questions and answers as bytes (RFC 1035, 2782, 6891); pure
    zones.py       the names that control has said, and the answers to questions; pure
    redirection.py leads what tasks ask their name servers to the agent
    server.py      answers datagrams, and passes on to the name servers what is not a name of a task
    answering.py   begins and ends all this as there are names

An alias is a name of Service Connect: only tasks with Service Connect in its namespace get an answer, by the address
from which they ask. To others it is a name like any other.

Tasks ask the name servers in their ``resolv.conf``, as always. One rule redirects these datagrams to the agent, so tasks
that run already have the names too, and nothing is in between where there are none. Questions by TCP go on to the
name servers: no answer of ours needs TCP.

May use ``network.kernel``, ``network.names`` and the agent's address. When the agent ends, the rule goes. Tests:
``tests/unit/dns``, ``tests/integration/network/test_task_names.py``.
"""
