"""HTTP servers that strangers may reach: they bound what an unknown sender can take."""
