"""The certificate and the credential that each auth mode requires. The documents' table is generated from this."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["metadata", "jwt"]


class Certificate(Enum):
    """The client certificate that a mode requires."""

    NOT_ASKED = "not requested"
    LISTED = "of that CA, with a name listed in `TASKWELL_TLS_CLIENT_NAMES`"
    OF_THE_CA = "of that CA; if `TASKWELL_TLS_CLIENT_NAMES` is set, with a name listed there"


class User(Enum):
    """The place that names the caller. The other places are ignored."""

    METADATA = "`x-user-id`; tokens are ignored"
    TOKEN = "the subject of the token; `x-user-id` is ignored, and the certificate names no user"  # noqa: S105 - a sentence


@dataclass(frozen=True, slots=True)
class Rule:
    """Requirements of one mode. The certificate decides which service may call, `user` on whose behalf; both apply."""

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
"""Keyed by the value of TASKWELL_AUTH and by whether TASKWELL_TLS_CLIENT_CA is set."""
