"""The ECS JSON 1.1 API: what operators drive the control endpoint with."""
