"""Calls to AWS: who signs them, with what, and where they go. Nothing of ECS itself."""
