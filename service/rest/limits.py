"""The limits of the REST door's connections."""

from typing import NamedTuple


class Limits(NamedTuple):
    """What connections are held to."""

    connections: int
    """Open at once; one more is closed at once."""
    head_bytes: int
    """The target and the headers of a request."""
    body_bytes: int
    """What a request may bring along. The application refuses what is over it; here the really large is cut off."""
    request_seconds: float
    """For a request to arrive, and for a client to take some of what it is sent."""
    idle_seconds: float
    """Between requests."""
    age_seconds: float
    """From which on a connection is closed after the next answer."""
