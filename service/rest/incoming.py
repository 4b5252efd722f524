"""What came on a connection and is still to be parsed, in pieces of which none reaches past the end of a request."""

from grpc import StatusCode

from service.rest.refusals import Refusal

CUT_OFF = 4
"""How many times the limit a body, as it comes, may have until it is cut off, as gRPC's messages; see options.py."""

# A proposal that is never taken up (RFC 9110, 7.8); the parser would take what follows for another protocol.
_UPGRADE = b"upgrade:"
_END = b"\r\n\r\n"


class Incoming:
    """Bytes, as they come. The parser's findings are told by `begin`, `end_head` and `end`, in this order."""

    def __init__(self, head_bytes: int, body_bytes: int) -> None:
        self._head_bytes = head_bytes
        self._body_bytes = body_bytes
        self._bytes = bytearray()
        self._at_line_start = True
        self.in_head = True
        """Whether the headers of a request have not ended."""
        self._begun = False
        self._taken = 0  # of the head, then of what follows it
        self._rest = 0  # of a body whose length is known

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        self._bytes += data

    def clear(self) -> None:
        self._bytes.clear()

    def begin(self) -> None:
        """A request has begun."""
        self._begun = True

    def end_head(self, length: int) -> None:
        """Its headers have ended, and announce a body of this length; 0 for none, or for chunks."""
        self.in_head, self._rest, self._taken = False, length, 0

    def end(self) -> None:
        """It has ended."""
        self.in_head, self._begun, self._taken = True, False, 0
        self._at_line_start = True

    def next_piece(self) -> bytes:
        """What can be parsed next. Empty if more has to come before.

        A request ends by its length, or with an empty line; short of that, pieces are as long as they can be. Lines of
        headers are given as a whole and without those that say `upgrade`. Raises Refusal for too much.
        """
        in_header = self.in_head and self._at_line_start and self._begun
        while piece := self._take(self._size(in_header)):
            if not (in_header and piece[: len(_UPGRADE)].lower() == _UPGRADE):
                return piece
        return b""

    def _size(self, in_header: bool) -> int:
        line = self._bytes.find(b"\n") + 1
        is_last_line = self._begun and self._bytes.startswith(b"\r\n")
        if self._rest or is_last_line or not self._at_line_start:
            return self._rest or line or len(self._bytes)
        end = self._bytes.find(_END) + len(_END)
        is_there = end > len(_END)
        if not self.in_head:
            return end if is_there else self._bytes.rfind(b"\n") + 1 or len(self._bytes)
        if is_there and _UPGRADE not in self._bytes[:end].lower():
            return end  # all of the head, none of whose lines is left out
        return line or (0 if in_header else len(self._bytes))

    def _take(self, size: int) -> bytes:
        piece = bytes(self._bytes[:size])
        del self._bytes[:size]
        self._taken += len(piece)
        so_far = self._taken if piece else self._taken + len(self._bytes)
        if self.in_head and so_far > self._head_bytes:
            raise too_large(self._head_bytes)
        if not self.in_head and so_far > CUT_OFF * self._body_bytes:
            raise too_long(self._body_bytes)
        self._rest -= min(self._rest, len(piece))
        self._at_line_start = piece.endswith(b"\n") if piece else self._at_line_start
        return piece


def too_long(limit: int) -> Refusal:
    message = f"The body is longer than {limit} bytes, which is the most that this server takes."
    return Refusal(message, "MESSAGE_TOO_LARGE", 413, StatusCode.RESOURCE_EXHAUSTED)


def too_large(limit: int) -> Refusal:
    message = f"The target and the headers of the request are larger than {limit} bytes."
    return Refusal(message, "HEADERS_TOO_LARGE", 431, StatusCode.RESOURCE_EXHAUSTED)
