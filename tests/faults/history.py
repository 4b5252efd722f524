"""The history of a run: every call with its request, times and outcome, every fault, and samples of the server."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

RAW, CLIENT = "raw stub", "taskwell-client"


@dataclass(slots=True)
class Call:
    """One call. Times are of the monotonic clock of the process that made all calls (s)."""

    number: int
    method: str
    """CreateTask, ListTasks, GetTask, UpdateTask, DeleteTask or CompleteTask."""
    user: str
    task_id: str
    """The task that the call is for; empty for CreateTask and ListTasks."""
    request: Message
    start: float
    end: float
    code: str
    """Name of the status code."""
    reason: str = ""
    """ErrorInfo.reason; empty if the status has no details."""
    retry_delay: float | None = None
    """RetryInfo.retry_delay (s)."""
    message: str = ""
    response: Message | None = None
    timeout: float = 0.0
    """Deadline of the client (s)."""
    client: str = RAW
    walk: int = 0
    """Number of the walk over pages that a ListTasks belongs to; 0 for none."""
    purpose: str = ""
    """What the workload tries with this call, where it is not plain use: see workload.py."""


@dataclass(slots=True)
class FaultRecord:
    """One fault as it was injected."""

    name: str
    start: float
    end: float
    server_away: bool = False
    recovers_within: float = 5.0


@dataclass(slots=True)
class Sample:
    """State of the server at one moment: resident memory (bytes), and how long a health check took (s)."""

    at: float
    resident: int
    health_seconds: float


@dataclass(slots=True)
class History:
    """Everything that a run recorded."""

    seed: int
    calls: list[Call] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    users: Sequence[str] = ()
    max_call_seconds: float = 30.0
    """The server's own limit for a call (s)."""
