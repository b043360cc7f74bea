"""Throws odd input at every decoder and at every HTTP surface: ``make fuzz``; ``tests/unit/fuzz`` does so in seconds."""
