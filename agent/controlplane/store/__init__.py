"""Where the control endpoint keeps everything: one contract and the stores that keep it."""
