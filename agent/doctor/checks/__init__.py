"""One module per check: ``check`` reads the host, ``judge`` decides, and decides purely."""
