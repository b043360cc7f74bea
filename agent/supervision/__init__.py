"""The service manager: readiness, watchdog and reload.

``notify.Notifier`` speaks to ``NOTIFY_SOCKET`` and is silent without one. ``watchdog.Watchdog`` feeds
systemd's watchdog only while all of these move: the event loop, the control loop, which tells by
``model.liveness.Liveness`` by when it will have moved, and the state writer (``StateStore.beat``).
``lifecycle.Lifecycle`` serves in sessions: a ``ServeSession`` is everything that the daemon built from one
set of settings, and it knows its successor, so that what both have alike is not torn down.
``reload.difference`` names what a reload changes, secrets masked.

READY is sent when tasks are restored and the session with control has begun, or when the engine could
not be reached once: who starts the agent must not wait for somebody else. SIGHUP ends a session and
begins the next in the same process; tasks do not notice. Bad settings are logged and the old ones stay;
settings that fail while everything is built from them are put back. Nothing here raises to its caller.
Tests: ``tests/unit/supervision``, ``tests/integration/supervision``, ``tests/vm/test_service.py``.
"""
