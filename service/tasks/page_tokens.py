"""Page tokens: encoded positions in a list, bound to the caller, filter and order."""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.model import Position, TaskQuery

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_DIGEST_BYTES = 8


def page_token_of(query: TaskQuery, position: Position) -> str:
    """Encode a token that continues this query after this position: 43 characters of URL-safe base64."""
    micros = (position.created_at - _EPOCH) // _MICROSECOND
    payload = micros.to_bytes(8, "big", signed=True) + UUID(position.id).bytes
    return urlsafe_b64encode(payload + _binding(query, payload)).rstrip(b"=").decode()


def position_of(query: TaskQuery, page_token: str) -> Position:
    """Decode the position after which the next page starts.

    Raises ValueError for a token that was not made by `page_token_of` for the same user, status and direction.
    """
    if not _TOKEN.fullmatch(page_token):
        raise ValueError("malformed page token")
    token = urlsafe_b64decode(page_token + "=")
    payload, binding = token[:-_DIGEST_BYTES], token[-_DIGEST_BYTES:]
    if binding != _binding(query, payload) or urlsafe_b64encode(token).decode() != page_token + "=":
        raise ValueError("page token of another list")
    try:
        created_at = _EPOCH + int.from_bytes(payload[:8], "big", signed=True) * _MICROSECOND
    except OverflowError:
        raise ValueError("page token with an impossible time") from None
    return Position(created_at, str(UUID(bytes=payload[8:])))


def _binding(query: TaskQuery, payload: bytes) -> bytes:
    # No secret: a forged token moves its own caller to another place in their own list, which they may read anyway. The
    # digest is there to notice a token used with other arguments, which would silently skip tasks.
    walk = f"{query.user_id} {query.status} {query.newest_first}".encode()
    return hashlib.blake2b(payload + walk, digest_size=_DIGEST_BYTES).digest()
