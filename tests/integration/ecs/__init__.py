"""A package, so that the agent that its tests share ends with the last of them."""
