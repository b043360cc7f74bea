"""State changes towards Amazon ECS: what is told (``shapes``), what needs none (``merge``), sending."""
