"""What must be shown, and whose word is then taken for who is calling: one table, of which the README's is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["metadata", "jwt"]


class Certificate(Enum):
    """What a client must show to be connected, and to be heard. Nobody gets by without what is asked."""

    NOT_ASKED = "is not asked for"
    LISTED = "must be of that CA, and have a name of `TASKWELL_TLS_CLIENT_NAMES`"
    OF_THE_CA = "must be of that CA and, where `TASKWELL_TLS_CLIENT_NAMES` is set, have a name of it"


class User(Enum):
    """Where the user of a call is named. The other places are not even read."""

    METADATA = "whom `x-user-id` names; a token is not read"
    TOKEN = "the subject of the token; `x-user-id` is not read, and the certificate names no user"  # noqa: S105 - a sentence


@dataclass(frozen=True, slots=True)
class Rule:
    """A certificate says who may speak, the other says for whom: both must hold, neither stands in for the other."""

    certificate: Certificate
    user: User


RULES: Mapping[tuple[Mode, bool], Rule] = MappingProxyType(
    {
        ("metadata", False): Rule(Certificate.NOT_ASKED, User.METADATA),
        ("metadata", True): Rule(Certificate.LISTED, User.METADATA),
        ("jwt", False): Rule(Certificate.NOT_ASKED, User.TOKEN),
        ("jwt", True): Rule(Certificate.OF_THE_CA, User.TOKEN),
    }
)
"""By TASKWELL_AUTH, and whether TASKWELL_TLS_CLIENT_CA is set."""
