"""Writes the tables of README and SECURITY from the code; a test holds them current."""

from pathlib import Path

from grpc import StatusCode
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service.auth import jwks, keys, tokens
from service.auth.modes import RULES
from service.config.field_types import PREFIX
from service.config.settings import Settings
from service.errors import RateLimited, RequestError
from service.metrics.recorder import ALL_SERIES
from service.rest import conditions, queries
from service.rpc import rate_limit
from service.rpc.status import CODES, RETRY_DELAYS
from service.tasks import validation
from service.tls import files

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "SECURITY.md")

# The settings that bound what a caller can cost, in the table of limits.
LIMITING = (
    *("max_in_flight", "rate_limit", "rate_burst", "max_call_seconds", "max_message_bytes", "max_metadata_bytes"),
    *("max_connections", "max_concurrent_streams", "handshake_timeout", "keepalive_min_interval"),
    "rest_request_timeout",
    *("keepalive_time", "keepalive_timeout"),
    *("max_connection_idle", "max_connection_age", "max_connection_age_grace"),
    *("database_pool_size", "database_max_overflow", "database_pool_timeout"),
)


def settings_table() -> str:
    """Every setting, its default and what it is for."""
    rows = [f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description} |" for name, field in _fields()]
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows])


def errors_table() -> str:
    """Every error: its code, its reason, whether a retry may help, and the message."""
    rows = [
        f"| {code.name} | `{error.reason}` | {_retry(error)} | {sentence(error)} |"
        for error, code in sorted(CODES.items(), key=_place)
    ]
    return "\n".join(["| code | reason | retry after | message |", "|---|---|---|---|", *rows])


def metrics_table() -> str:
    """Every metric, its labels and what it tells."""
    rows = [
        f"| `{series.name}` | {', '.join(f'`{label}`' for label in series.labels)} | {series.description} |"
        for series in ALL_SERIES
    ]
    return "\n".join(["| metric | labels | |", "|---|---|---|", *rows])


def evidence_table() -> str:
    """What must be shown by whom, and who the user then is."""
    rows = [
        f"| `{mode}` | {'set' if mutual else 'not set'} | {rule.certificate.value} | {rule.user.value} |"
        for (mode, mutual), rule in RULES.items()
    ]
    header = f"| `{PREFIX}AUTH` | `{PREFIX}TLS_CLIENT_CA` | a client's certificate | the user |"
    return "\n".join([header, "|---|---|---|---|", *rows])


def limits_table() -> str:
    """Everything that is bounded: by a setting, or for good."""
    settings = [
        f"| {field.description} | {_default(field)} | `{PREFIX}{name.upper()}` |"
        for name, field in _fields()
        if name in LIMITING
    ]
    fixed = [
        ("A user's name: printable ASCII characters", 255),
        ("A title (code points)", validation.TITLE_MAX),
        ("A description (code points)", validation.DESCRIPTION_MAX),
        ("Tasks on a page", validation.PAGE_SIZE_MAX),
        ("A page (bytes)", validation.PAGE_BYTES_MAX),
        ("Parameters in a query of a REST request", queries.MOST_PARAMETERS),
        ("Etags in a header of a REST request", conditions.MOST_TAGS),
        ("A token (bytes)", tokens.MOST_BYTES),
        ("Verified tokens that are remembered", tokens.MOST_REMEMBERED),
        ("How often tokens with unknown keys have the issuer asked (s)", f"{keys.ASKED_INTERVAL:g}"),
        ("Calls that wait for the issuer's keys", keys.MOST_WAITING),
        ("A JWKS (bytes)", jwks.MOST_BYTES),
        ("A file for TLS (bytes)", files.MOST_BYTES),
        ("Users whose calls are counted, where they are limited", rate_limit.MAX_BUCKETS),
    ]
    rows = [*settings, *(f"| {what} | `{limit}` | |" for what, limit in fixed)]
    return "\n".join(["| | limit | setting |", "|---|---|---|", *rows])


def with_tables(text: str) -> str:
    """The text with every table between its markers as it must be now; what has no such markers has no such table."""
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
        return "as said"
    delay = RETRY_DELAYS.get(error)
    return f"{delay / 1000:g} s" if delay else ""


def sentence(error: type[RequestError]) -> str:
    """What callers read, its placeholders in italics."""
    if error.sentence == "{summary}":
        return "What is wrong with each field, and what to change."
    return error.sentence.replace(":.3g}", "}").replace("{", "*").replace("}", "*")


TABLES = {
    "settings": settings_table,
    "errors": errors_table,
    "evidence": evidence_table,
    "limits": limits_table,
    "metrics": metrics_table,
}

if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))
