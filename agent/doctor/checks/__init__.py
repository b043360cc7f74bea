"""One module per check: ``check`` reads the host, and ``judge`` decides as a pure function."""
