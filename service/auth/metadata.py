"""Authentication by the metadata key `x-user-id`, which a trusted mesh or gateway sets."""

from collections.abc import Iterable

from service.errors import CallerInvalid, CallerMissing
from service.model import Caller, is_user_id

USER_ID_KEY = "x-user-id"


def caller_from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """The caller named by `x-user-id`.

    Raises CallerMissing if the key is absent, and CallerInvalid if it is malformed or repeated. (Behind a gateway that
    appends the key instead of replacing it, a client could otherwise choose its own user id.)
    """
    named = [value for key, value in metadata if key == USER_ID_KEY]
    if not named:
        raise CallerMissing
    user_id = named[0]
    if len(named) > 1 or not is_user_id(user_id):
        raise CallerInvalid
    return Caller(user_id)
