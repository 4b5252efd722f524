"""What the door refuses by itself, before a call is made."""

from collections.abc import Sequence

from grpc import StatusCode

from service.errors import Violation

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):
    """The request is refused: `http` is the status, the code stands in the body beside the reason and the message.

    HTTP may have a better word than the status that stands for the code elsewhere.
    """

    def __init__(
        self,
        message: str,
        reason: str,
        http: int = 400,
        code: StatusCode = StatusCode.INVALID_ARGUMENT,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.reason, self.http, self.code = reason, http, code
        self.headers, self.violations = headers, violations


def unfit(violations: Sequence[Violation]) -> Refusal:
    """Fields in the body, the query or the path that are unknown, or cannot be what they were given as."""
    summary = "; ".join(f"{each.field} {each.description}" for each in violations) + "."
    return Refusal(summary, "INVALID_FIELD", violations=violations)


def quoted(text: str) -> str:
    """The beginning of what a client sent, free of control characters."""
    return repr(text if len(text) <= 40 else text[:40] + "…")[1:-1]
