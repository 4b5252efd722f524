"""`taskwell token`: prints a development token signed with the shared secret."""

import argparse
import time

from service.commands.failure import CommandFailed, settings_of


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("taskwell token", add_help=False, allow_abbrev=False)
    parser.add_argument("--user", required="--help" not in arguments)
    parser.add_argument("--expires-in", type=int, default=3600)
    parser.add_argument("--scope")
    wanted, rest = parser.parse_known_args(arguments)
    settings = settings_of("token", rest)
    if not settings.jwt_secret:
        raise CommandFailed(
            "a token can be signed only with TASKWELL_AUTH=jwt and TASKWELL_JWT_SECRET; with TASKWELL_JWT_JWKS, only "
            "the issuer has the private key: get a token from it"
        )
    from service.auth.dev_tokens import mint_token
    from service.server.authentication import expected_of

    scope = wanted.scope if wanted.scope is not None else f"{settings.jwt_read_scope} {settings.jwt_write_scope}"
    secret = settings.jwt_secret.get_secret_value()
    try:
        print(mint_token(secret, expected_of(settings), wanted.user, scope, int(time.time()), wanted.expires_in))
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    return 0
