"""Calls to AWS: credentials, signing and endpoints. Contains nothing specific to ECS."""
