"""Field types of the settings, with error messages for operators."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from service.address import parse_address
from service.auth.jwks import parse_jwks_source


def _is_address(text: str) -> str:
    parse_address(text)
    return text


def _is_jwks_source(text: str) -> str:
    parse_jwks_source(text)
    return text


def _are_hosts(text: str) -> str:
    for each in listed(text) or ("",):
        if not re.fullmatch(r"\*|[A-Za-z0-9.-]+", each):
            raise ValueError("must be names without a port, such as tasks.example.com, separated by commas, or *")
    return text


def _are_origins(text: str) -> str:
    for each in listed(text) or ("",):
        if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/?#@\s]+", each):
            raise ValueError("must be origins as browsers send them, such as https://app.example.com, or *")
    return text


def listed(text: str | None) -> tuple[str, ...]:
    """Split a comma-separated list; blanks around items and empty items are dropped."""
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


AddressText = Annotated[str, AfterValidator(_is_address)]
HostsText = Annotated[str, AfterValidator(_are_hosts)]
OriginsText = Annotated[str, AfterValidator(_are_origins)]
JwksText = Annotated[str, AfterValidator(_is_jwks_source)]
# A scope token (RFC 6749, 3.3); names of claims follow the same pattern.
Name = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,255}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
