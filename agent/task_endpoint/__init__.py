"""What containers can request from the agent at 169.254.170.2: credentials, metadata, protection, faults.

``server.TaskServer`` listens on one socket and answers by the routes that parts give it: a part is a list of
``contract.Route``. A handler gets a ``contract.Call``: the request, its peer, and who asks::

    async def state(call: Call) -> web.Response:
        if not await call.is_from(task_arn):   # or: caller = await call.caller()
            return answer(..., status=404)
        return answer(body)

    routes = [Route(r"/v4/(?P<id>[^/]*)", state)]

``callers.Callers`` finds the caller of a request by its connection alone; nothing is remembered from earlier
ones. ``sockets`` asks the kernel about a connection, ``processes`` looks at the processes of a container.
``throttle`` limits requests as Amazon's agent does. ``credentials`` (found by ``credential_lookup``) and the
``audit`` log (its file: ``audit_file``) are the part for credentials, ``protection`` is that for task
protection, ``metadata`` that for metadata, ``fault_injection`` that for faults, whose bodies ``fault_requests``
reads.

Reads ``/proc``, control groups and the kernel's socket tables; changes nothing, except for faults that a
task asks for (``network.faults``). A bad request gets its status, a failure of ours is logged and gets 500;
neither ends the agent. How packets get here is in ``network.agent_address``.
Tests: ``tests/unit/task_endpoint``, ``tests/integration/e2e/test_task_roles.py``.
"""
