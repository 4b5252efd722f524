"""Which method needs a caller. The table fails closed: a method that is not in it is refused."""

from enum import Enum, auto
from types import MappingProxyType


class Access(Enum):
    """What a method asks of whoever calls it."""

    CALLER = auto()
    """A user on whose behalf it runs."""

    OPEN = auto()
    """Nothing."""


TASK_SERVICE = "taskwell.v1.TaskService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

POLICY = MappingProxyType(
    {
        f"/{TASK_SERVICE}/CreateTask": Access.CALLER,
        f"/{TASK_SERVICE}/ListTasks": Access.CALLER,
        f"/{TASK_SERVICE}/GetTask": Access.CALLER,
        f"/{TASK_SERVICE}/UpdateTask": Access.CALLER,
        f"/{TASK_SERVICE}/DeleteTask": Access.CALLER,
        f"/{TASK_SERVICE}/CompleteTask": Access.CALLER,
        f"/{HEALTH}/Check": Access.OPEN,
        f"/{HEALTH}/Watch": Access.OPEN,
    }
)


def policy_with_reflection(access: Access) -> MappingProxyType[str, Access]:
    """The table with both versions of server reflection added."""
    return MappingProxyType({**POLICY, **{f"/{service}/ServerReflectionInfo": access for service in REFLECTION}})
