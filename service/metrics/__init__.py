"""Prometheus metrics: counters, and the endpoint that serves them."""
