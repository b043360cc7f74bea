"""The data types of the agent. Pure data, no I/O; imports only ``agent.errors`` of this project."""
