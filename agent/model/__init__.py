"""The data types of the agent: pure data, no I/O; of this project it imports only ``agent.errors``."""
