"""The service manager: readiness, watchdog, what a reload changed."""
