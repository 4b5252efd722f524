"""One server process and several: wiring, startup, sockets, supervisor, health check.

This file stays empty: the supervisor must not load the service.
"""
