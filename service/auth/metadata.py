"""The caller as a trusted mesh or gateway names them: the metadata key `x-user-id`."""

from collections.abc import Iterable

from service.errors import CallerInvalid, CallerMissing
from service.model import Caller, is_user_id

USER_ID_KEY = "x-user-id"


def caller_from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """The user whom a call's metadata names.

    Raises CallerMissing where nobody is named, CallerInvalid where the name is given twice or is not well-formed: a
    gateway that appends instead of replacing would otherwise let its client choose.
    """
    named = [value for key, value in metadata if key == USER_ID_KEY]
    if not named:
        raise CallerMissing
    user_id = named[0]
    if len(named) > 1 or not is_user_id(user_id):
        raise CallerInvalid
    return Caller(user_id)
