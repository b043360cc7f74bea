"""Amazon ECS as control: registration, ACS, state changes, TCS, and the life of an EC2 host."""
