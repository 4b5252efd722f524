"""Writes the tables of the documents from the code: errors, settings, metrics, limits, credentials.

python tools/tables.py            write them
python tools/tables.py --check    exit with 1 if a table is not current
"""

import sys
from pathlib import Path

from grpc import StatusCode
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service import errors
from service.auth import jwks, keys, tokens
from service.auth.modes import RULES
from service.config.names import PREFIX
from service.config.settings import Settings
from service.errors import RateLimited, RequestError
from service.metrics.series import ALL_SERIES
from service.rest import connections, query_parameters
from service.rpc import admission, call_limits, rate_limit
from service.rpc.status import CODES, RETRY_DELAYS
from service.tasks import validation
from service.tls import files

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = tuple(
    ROOT / "docs" / page
    for page in (
        "reference/errors.md",
        "reference/settings.md",
        "reference/metrics.md",
        "operations/authentication.md",
        "operations/limits.md",
    )
)

# The settings in the table of limits: they bound what a caller can cost.
LIMITING = (
    *("max_in_flight", "rate_limit", "rate_burst", "max_call_seconds", "max_message_bytes", "max_metadata_bytes"),
    *("max_connections", "max_concurrent_streams", "handshake_timeout", "keepalive_min_interval"),
    *("rest_request_timeout", "rest_response_timeout", "rest_min_rate"),
    *("keepalive_time", "keepalive_timeout"),
    *("max_connection_idle", "max_connection_age", "max_connection_age_grace"),
    *("database_pool_size", "database_max_overflow", "database_pool_timeout"),
)


def settings_table() -> str:
    """Every setting, its default and its description."""
    rows = [f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description} |" for name, field in _fields()]
    return "\n".join(["| setting | default | description |", "|---|---|---|", *rows])


def errors_table() -> str:
    """Every error: its code, its reason, its retry delay and its message."""
    rows = [
        f"| {code.name} | `{error.reason}` | {_retry(error)} | {sentence(error)} |"
        for error, code in sorted(CODES.items(), key=_place)
    ]
    return "\n".join(["| code | reason | retry after | message |", "|---|---|---|---|", *rows])


def metrics_table() -> str:
    """Every metric, its labels and its description."""
    rows = [
        f"| `{series.name}` | {', '.join(f'`{label}`' for label in series.labels)} | {series.description} |"
        for series in ALL_SERIES
    ]
    return "\n".join(["| metric | labels | description |", "|---|---|---|", *rows])


def credentials_table() -> str:
    """The certificate and the credential that each mode requires."""
    rows = [
        f"| `{mode}` | {'set' if mutual else 'not set'} | {rule.certificate.value} | {rule.user.value} |"
        for (mode, mutual), rule in RULES.items()
    ]
    header = f"| `{PREFIX}AUTH` | `{PREFIX}TLS_CLIENT_CA` | client certificate | user |"
    return "\n".join([header, "|---|---|---|---|", *rows])


def limits_table() -> str:
    """Every limit: those with a setting, then the fixed ones."""
    settings = [
        f"| {field.description} | {_default(field)} | `{PREFIX}{name.upper()}` |"
        for name, field in _fields()
        if name in LIMITING
    ]
    unsent = call_limits.MAX_UNSENT_RESPONSES
    wait = f"{admission.MAX_WAIT:g}"
    fixed = [
        ("Length of a user id (printable ASCII characters)", 255),
        ("Length of a title (code points)", validation.TITLE_MAX),
        ("Length of a description (code points)", validation.DESCRIPTION_MAX),
        ("Tasks on a page", validation.PAGE_SIZE_MAX),
        ("Size of a page (bytes)", validation.PAGE_BYTES_MAX),
        ("Parameters in the query of a REST request", query_parameters.MOST_PARAMETERS),
        ("Size of a token (bytes)", tokens.MAX_BYTES),
        ("Verified tokens in the cache", tokens.MAX_REMEMBERED),
        ("Interval between key fetches that unknown keys cause (s)", f"{keys.REFRESH_INTERVAL:g}"),
        ("Calls that wait for the keys of the issuer", keys.MAX_WAITING),
        ("Size of a JWKS (bytes)", jwks.MAX_BYTES),
        ("Size of a PEM file (bytes)", files.MAX_BYTES),
        ("Users that the rate limit remembers", rate_limit.MAX_BUCKETS),
        ("Time that a call waits when too many are in flight (s); then it is RESOURCE_EXHAUSTED", wait),
        ("Calls that wait so; further calls are RESOURCE_EXHAUSTED at once", admission.MAX_WAITING),
        ("Size of the messages of calls that wait so (bytes)", admission.MAX_WAITING_BYTES),
        (
            "Calls whose message has not arrived; one more ends the oldest as INVALID_ARGUMENT",
            call_limits.MAX_RECEIVING,
        ),
        ("Responses that clients have not taken yet; further calls are RESOURCE_EXHAUSTED", unsent),
        ("Size of all responses over 64 KiB not taken yet (bytes)", call_limits.MAX_UNSENT_BYTES),
        ("Of them, on one connection (bytes)", call_limits.MAX_UNSENT_BYTES_PER_CONNECTION),
        (
            "Size of all REST responses not taken yet (bytes); beyond, the oldest is dropped",
            connections.MAX_UNREAD_BYTES,
        ),
        ("Invalid fields that one error names", errors.MAX_VIOLATIONS),
    ]
    rows = [*settings, *(f"| {limited} | `{limit}` | |" for limited, limit in fixed)]
    return "\n".join(["| limited | limit | setting |", "|---|---|---|", *rows])


def with_tables(text: str) -> str:
    """The text, with the current table between each pair of markers in it."""
    for name, table in TABLES.items():
        if f"<!-- {name} -->\n" not in text:
            continue
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{start}{table()}\n{end}{after}"
    return text


def _place(row: tuple[type[RequestError], StatusCode]) -> tuple[int, str]:
    return row[1].value[0], row[0].reason


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return ""
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _retry(error: type[RequestError]) -> str:
    if error is RateLimited:
        return "in the message"
    delay = RETRY_DELAYS.get(error)
    return f"{delay / 1000:g} s" if delay else ""


def sentence(error: type[RequestError]) -> str:
    """The message, with its placeholders in italics."""
    if error.sentence == "{summary}":
        return "What is wrong with each field, and what to change."
    return error.sentence.replace(":.3g}", "}").replace("{", "*").replace("}", "*")


TABLES = {
    "settings": settings_table,
    "errors": errors_table,
    "credentials": credentials_table,
    "limits": limits_table,
    "metrics": metrics_table,
}


def main(arguments: list[str]) -> int:
    outdated = {page: text for page in DOCUMENTS if (text := with_tables(page.read_text())) != page.read_text()}
    if arguments == ["--check"]:
        for page in outdated:
            print(f"{page.relative_to(ROOT)}: a table is not current, run 'make tables'")
        return 1 if outdated else 0
    for page, text in outdated.items():
        page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
