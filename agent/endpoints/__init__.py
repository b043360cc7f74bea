"""Local HTTP: the operators' Unix socket and the Prometheus page."""
