"""Which rules of the host's firewall a connection of a task meets; loaded when somebody asks."""
