"""What a user may be called, wherever the name comes from."""

import re
from typing import TypeGuard

_USER_ID = re.compile(r"[!-~]{1,255}")


def is_user_id(name: object) -> TypeGuard[str]:
    """Whether this is a user id: 1 to 255 printable ASCII characters without spaces."""
    return isinstance(name, str) and _USER_ID.fullmatch(name) is not None
