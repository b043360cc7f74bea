"""The service manager: readiness, watchdog and reload."""
