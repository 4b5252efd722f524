"""The announcements at startup: the addresses, and example calls to paste into a shell."""

from service.address import Address
from service.config.settings import Settings
from service.rpc.policy import TASK_SERVICE

_TASK = '{"title": "Buy milk"}'


def grpcurl_example(address: Address, settings: Settings) -> str:
    """Return a grpcurl command that creates a task."""
    flags = _certificates(settings, "-") or "-plaintext"
    body = f"-d '{{\"task\": {_TASK}}}'"
    return f"Try: grpcurl {flags} -H {_caller(settings)} {body} {address} {TASK_SERVICE}/CreateTask"


def curl_example(address: Address, settings: Settings) -> str:
    """Return a curl command that creates a task over REST."""
    flags = _certificates(settings, "--")
    scheme = "https" if settings.tls else "http"
    return " ".join(
        [
            "Try: curl",
            *([flags] if flags else []),
            f"-H {_caller(settings)} --json '{_TASK}' {scheme}://{address}/v1/tasks",
        ]
    )


def _caller(settings: Settings) -> str:
    """Return the header that names the caller, quoted for a shell."""
    if settings.auth == "metadata":
        return "'x-user-id: alice'"
    return f'"authorization: Bearer {"$(taskwell token --user alice)" if settings.jwt_secret else "$TOKEN"}"'


def _certificates(settings: Settings, dashes: str) -> str:
    """Return the TLS flags; empty without TLS."""
    if settings.tls is None:
        return ""
    names = ("cacert CA.pem", "cert CERT.pem", "key KEY.pem") if settings.tls_client_ca else ("cacert CA.pem",)
    return " ".join(f"{dashes}{name}" for name in names)
