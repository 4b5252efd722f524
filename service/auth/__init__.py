"""Authentication: finds the caller of a call, from metadata or from a signed token."""
