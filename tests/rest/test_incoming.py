"""Where a request ends: whatever comes, and however it was cut, no piece that is parsed reaches further."""

from itertools import accumulate, pairwise

import httptools
from hypothesis import given, settings
from hypothesis import strategies as st

from service.rest.incoming import Incoming

NAMES = st.sampled_from(["host", "x-upgrade", "Upgrade", "upgrade", "UPGRADE", "connection", "upgrades"])
VALUES = st.sampled_from(["", "h2c", "upgrade", "Upgrade, HTTP2-Settings", "upgrade: h2c", "websocket"])
HEADS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
DATA = st.text("\r\na0;:", max_size=12).map(str.encode)
TRAILERS = st.lists(st.sampled_from([b"a: b\r\n", b"upgrade: h2c\r\n"]), max_size=2)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """A request as it is sent, the headers that are to be seen of it, and its body."""
    headers = [(name.encode(), value.encode()) for name, value in draw(HEADS)]
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    method, body, sent = b"GET", b"", b""
    if framing == "length":
        method, body = b"POST", draw(DATA)
        headers.append((b"content-length", b"%d" % len(body)))
        sent = body
    elif framing == "chunks":
        chunks = [chunk for chunk in draw(st.lists(DATA, max_size=3)) if chunk]
        method, body = b"POST", b"".join(chunks)
        headers.append((b"transfer-encoding", b"chunked"))
        sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        sent += b"0\r\n%b\r\n" % b"".join(draw(TRAILERS))
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    seen = [(name, value) for name, value in headers if name.lower() != b"upgrade"]
    return b"%b / HTTP/1.1\r\n%b\r\n%b" % (method, head, sent), seen, body


class Parsed:
    """What httptools makes of the pieces."""

    def __init__(self) -> None:
        self.incoming = Incoming(10_000, 10_000)
        self.parser = httptools.HttpRequestParser(self)
        self.requests: list[tuple[list[tuple[bytes, bytes]], bytes]] = []
        self.left_at_the_ends: list[int] = []
        self.waiting = 0  # bytes that have not come yet

    def on_message_begin(self) -> None:
        self.incoming.begin()
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.incoming.end_head(int(dict(self.headers).get(b"content-length", 0)))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.requests.append((self.headers, self.body))
        self.incoming.end()
        self.left_at_the_ends.append(len(self.incoming) + self.waiting)

    def comes(self, data: bytes, waiting: int) -> None:
        self.waiting = waiting
        self.incoming.add(data)
        while piece := self.incoming.next_piece():
            self.parser.feed_data(piece)


@settings(max_examples=1000)
@given(st.data(), st.lists(requests(), min_size=1, max_size=3))
def test_no_piece_reaches_past_the_end_of_a_request(
    data: st.DataObject, sent: list[tuple[bytes, list[tuple[bytes, bytes]], bytes]]
) -> None:
    stream = b"".join(raw for raw, _, _ in sent)
    cuts = data.draw(st.one_of(st.just(range(len(stream))), st.sets(st.integers(0, len(stream)))))
    parsed = Parsed()
    for start, end in pairwise(sorted({0, *cuts, len(stream)})):
        parsed.comes(stream[start:end], len(stream) - end)
    assert [(headers, body) for _, headers, body in sent] == parsed.requests
    ends = accumulate(len(raw) for raw, _, _ in sent)
    assert [len(stream) - end for end in ends] == parsed.left_at_the_ends
