"""Names of the environment variables, and of the file that may have them."""

PREFIX = "TASKWELL_"
"""Prefix of the environment variables."""

ENV_FILE = ".env"
"""The file in the working directory that may have settings."""
