"""Which method needs a caller, and which scope. The table fails closed: a method that is not in it is refused."""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from service.errors import MethodNotAllowed, ScopeMissing
from service.model import Caller


class Access(Enum):
    """What a method asks of whoever calls it."""

    READ = auto()
    """A user on whose behalf it runs, with the scope to read tasks where scopes are asked for."""

    WRITE = auto()
    """A user on whose behalf it runs, with the scope to change tasks where scopes are asked for."""

    CALLER = auto()
    """A user, whatever their scopes."""

    OPEN = auto()
    """Nothing."""


TASK_SERVICE = "taskwell.v1.TaskService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

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


def policy_with_reflection(access: Access) -> MappingProxyType[str, Access]:
    """The table with both versions of server reflection added."""
    return MappingProxyType({**POLICY, **{f"/{service}/ServerReflectionInfo": access for service in REFLECTION}})


def require_scope(access: Access, caller: Caller, scopes: Mapping[Access, str]) -> None:
    """Raise ScopeMissing if the caller's token lacks what a method asks; `scopes` names the scope of READ and of WRITE.

    A token without limits (`Caller.scopes` None) may do everything. Raises MethodNotAllowed for an access whose scope
    nobody named.
    """
    if caller.scopes is None or access is Access.CALLER:
        return
    if access not in scopes:
        raise MethodNotAllowed
    if scopes[access] not in caller.scopes:
        raise ScopeMissing(scope=scopes[access])
