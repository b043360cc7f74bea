"""The long poll of our own agents: calls under ``/v1``, and what an agent says that it holds."""
