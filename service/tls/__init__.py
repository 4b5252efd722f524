"""Certificates for both servers: read, verified, and followed as they are renewed."""
