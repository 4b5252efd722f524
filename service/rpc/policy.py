"""Access policy: the caller and the scope that each method requires. A method that is not in the table is refused."""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from service.errors import MethodNotAllowed, ScopeMissing
from service.model import Caller


class Access(Enum):
    """Requirement of a method on its caller."""

    READ = auto()
    """A user; with the scope to read tasks, where scopes are checked."""

    WRITE = auto()
    """A user; with the scope to change tasks, where scopes are checked."""

    CALLER = auto()
    """A user, with any scopes."""

    OPEN = auto()
    """No caller."""


TASK_SERVICE = "taskwell.v1.TaskService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
CHANNELZ = "grpc.channelz.v1.Channelz"
_CHANNELZ_METHODS = (
    *("GetTopChannels", "GetServers", "GetServer", "GetServerSockets", "GetChannel", "GetSubchannel", "GetSocket"),
)

POLICY = MappingProxyType(
    {
        f"/{TASK_SERVICE}/CreateTask": Access.WRITE,
        f"/{TASK_SERVICE}/ListTasks": Access.READ,
        f"/{TASK_SERVICE}/GetTask": Access.READ,
        f"/{TASK_SERVICE}/UpdateTask": Access.WRITE,
        f"/{TASK_SERVICE}/DeleteTask": Access.WRITE,
        f"/{TASK_SERVICE}/CompleteTask": Access.WRITE,
        f"/{HEALTH}/Check": Access.OPEN,
        f"/{HEALTH}/Watch": Access.OPEN,
    }
)

_STREAMS = {
    f"/{HEALTH}/Watch": "server_stream",
    **{f"/{service}/ServerReflectionInfo": "bidi_stream" for service in REFLECTION},
}


def with_reflection(policy: Mapping[str, Access], access: Access) -> Mapping[str, Access]:
    """Return the table with both versions of server reflection added."""
    return {**policy, **{f"/{service}/ServerReflectionInfo": access for service in REFLECTION}}


def with_channelz(policy: Mapping[str, Access]) -> Mapping[str, Access]:
    """Return the table with the methods of Channelz added, for every authenticated caller."""
    return {**policy, **{f"/{CHANNELZ}/{method}": Access.CALLER for method in _CHANNELZ_METHODS}}


def grpc_types(policy: Mapping[str, Access]) -> dict[str, str]:
    """Map each method of the table to its type, in the words of go-grpc-middleware."""
    return {method: _STREAMS.get(method, "unary") for method in policy}


def require_scope(access: Access, caller: Caller, scopes: Mapping[Access, str]) -> None:
    """Raise ScopeMissing if the caller's token lacks the scope; `scopes` maps READ and WRITE to scope names.

    A caller whose scopes are None may do everything. Raises MethodNotAllowed for an access without a scope name.
    """
    if caller.scopes is None or access is Access.CALLER:
        return
    if access not in scopes:
        raise MethodNotAllowed
    if scopes[access] not in caller.scopes:
        raise ScopeMissing(scope=scopes[access])
