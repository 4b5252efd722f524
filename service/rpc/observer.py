"""Who is told what becomes of calls, without being known here."""

from typing import Protocol


class Observer(Protocol):
    """Is told what becomes of calls."""

    def on_call(self, method: str, code: str, seconds: float) -> None:
        """A call has ended: its full name, the name of its status code, how long it took (s)."""

    def on_overload(self) -> None:
        """A call was refused because there are too many."""

    def on_batch(self, operation: str, size: int) -> None:
        """A set of calls goes to the database together."""


class _Unobserved:
    def on_call(self, method: str, code: str, seconds: float) -> None:
        pass

    def on_overload(self) -> None:
        pass

    def on_batch(self, operation: str, size: int) -> None:
        pass


UNOBSERVED: Observer = _Unobserved()
