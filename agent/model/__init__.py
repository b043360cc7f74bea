"""The vocabulary of the agent: pure data, no I/O, nothing of ours imported but ``agent.errors``."""
