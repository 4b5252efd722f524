"""Settings: where they come from, which are refused, what is shown of them."""

import socket
from pathlib import Path

import pytest

from service.address import Address, parse_address
from service.config.load import SettingsError, load_settings
from service.config.settings import Settings, inherited_settings
from service.db.url import parse_database_url


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, since settings may come from a file in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_are_settings_that_can_be_served_with() -> None:
    settings = load_settings("taskwell serve", [])
    assert (settings.grpc_address, str(settings.database)) == ("127.0.0.1:50051", "sqlite:///taskwell.db")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("grpc_address", "50051", "must be host:port"),
        ("grpc_address", ":50051", "must be host:port"),
        ("grpc_address", "127.0.0.1:x", "port from 0 to 65535"),
        ("grpc_address", "127.0.0.1:65536", "port from 0 to 65535"),
        ("grpc_address", "::1:50051", "brackets"),
        ("grpc_address", "0.0.0.0:50051", "TASKWELL_TRUST_NETWORK"),
        ("grpc_address", "[::]:50051", "TASKWELL_TRUST_NETWORK"),
        ("grpc_address", "192.0.2.1:50051", "TASKWELL_TRUST_NETWORK"),
        ("grpc_address", "no.such.host.invalid:50051", "TASKWELL_TRUST_NETWORK"),
        ("rest_address", "8080", "must be host:port"),
        ("rest_address", "0.0.0.0:8080", "TASKWELL_TRUST_NETWORK"),
        ("rest_address", "192.0.2.1:8080", "TASKWELL_TRUST_NETWORK"),
        ("rest_hosts", "tasks.example:8080", "without a port"),
        ("rest_hosts", "https://tasks.example", "without a port"),
        ("rest_hosts", " , ", "without a port"),
        ("rest_cors_origins", "app.example", "https://app.example.com"),
        ("rest_cors_origins", "https://app.example/", "https://app.example.com"),
        ("rest_cors_origins", "https://app.example https://other.example", "https://app.example.com"),
        ("auth", "none", "'metadata' or 'jwt'"),
        ("jwt_secret", "secret" * 5, "at least 32 bytes"),
        ("jwt_secret", "é" * 15, "at least 32 bytes"),
        ("jwt_secret", "-----BEGIN PUBLIC KEY-----\nsecret", "key of another kind"),
        ("jwt_secret", '{"kty": "oct", "k": "secretsecretsecret"}', "key of another kind"),
        ("jwt_jwks", "http://issuer.example/jwks", "https://"),
        ("jwt_jwks", "https://user:secret@issuer.example/jwks", "without a user or password"),
        ("jwt_read_scope", "two words", "pattern"),
        ("jwt_scope_claim", "a\nb", "pattern"),
        ("workers", "0", "must be a number from 1 to 256, or auto"),
        ("workers", "257", "must be a number from 1 to 256, or auto"),
        ("workers", "1.5", "must be a number from 1 to 256, or auto"),
        ("workers", "many", "must be a number from 1 to 256, or auto"),
        ("users", "some", "'any' or 'known'"),
        ("rate_limit", "0", "greater than or equal to 0.001"),
        ("rate_limit", "nan", "less than or equal to 1000000"),
        ("rate_burst", "0", "greater than or equal to 1"),
        ("max_in_flight", "0", "greater than or equal to 1"),
        ("max_call_seconds", "soon", "number"),
        ("max_call_seconds", "-1", "greater than 0"),
        ("database_url", "mysql://secret@db/tasks", "postgresql://"),
        ("database_url", "postgresql+asyncpg://u:secret@db/tasks", "postgresql://"),
        ("database_url", "postgresql://u:secret@db:port/tasks", "port that is not a number"),
        ("database_url", "postgresql://u:sec%ret@db/tasks", "libpq understands"),
        ("database_url", "postgresql://u:secret@db/tasks?no_such_thing=1", "libpq understands"),
        ("database_url", "taskwell.db", "sqlite:///"),
        ("database_url", "sqlite://", "must name a file"),
        ("database_url", "sqlite:///:memory:", "must name a file"),
        ("database_url", "sqlite://host/file.db", "host"),
        ("database_url", "sqlite:///file.db?mode=ro", "no parameters"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"TASKWELL_{name.upper()}", value)
    with pytest.raises(SettingsError) as refusal:
        load_settings("taskwell serve", [])
    message = str(refusal.value)
    assert message.startswith(f"TASKWELL_{name.upper()}: ")
    assert sentence in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rest-hosts", "tasks.example"], "TASKWELL_REST_ADDRESS: TASKWELL_REST_HOSTS needs it"),
        (["--rest-cors-origins", "https://app.example"], "TASKWELL_REST_ADDRESS: TASKWELL_REST_CORS_ORIGINS needs it"),
        (
            ["--rest-address", "127.0.0.1:0", "--rest-cors-origins", "*"],
            "TASKWELL_REST_CORS_ORIGINS: * would let every",
        ),
    ],
)
def test_what_does_not_go_together_over_rest_is_refused(flags: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings("taskwell serve", flags)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    ("flags", "hosts"),
    [
        ([], None),
        (["--rest-address", "127.0.0.1:0"], ("localhost", "127.0.0.1")),
        (["--rest-address", "127.0.0.1:0", "--rest-hosts", "a.example, b.example"], ("a.example", "b.example")),
        (["--rest-address", "127.0.0.1:0", "--rest-hosts", "a.example,*"], None),
        (["--rest-address", "0.0.0.0:0", "--trust-network"], None),
        (["--rest-address", "127.0.0.1:0", "--trust-network"], None),
    ],
)
def test_rest_is_asked_for_as_this_machine_unless_the_network_is_trusted(
    flags: list[str], hosts: tuple[str, ...] | None
) -> None:
    assert load_settings("taskwell serve", flags).hosts == hosts


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings("taskwell serve", ["--max-in-flight", "0", "--users", "some"])
    assert len(str(refusal.value).splitlines()) == 2


def test_flags_come_before_the_environment_and_that_before_the_env_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = "TASKWELL_MAX_IN_FLIGHT=1\nTASKWELL_USERS=known\nTASKWELL_LOG_LEVEL=debug\nOTHER=1\n"
    (folder / ".env").write_text(kept)
    for name, value in {"MAX_IN_FLIGHT": "2", "LOG_LEVEL": "error", "USERS": ""}.items():
        monkeypatch.setenv(f"TASKWELL_{name}", value)
    settings = load_settings("taskwell serve", ["--max-in-flight", "3"])
    assert (settings.max_in_flight, settings.log_level, settings.users) == (3, "error", "known")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.1.2.3:1", "[::1]:65535", "localhost:50051"])
def test_loopback_addresses_need_no_trust(address: str) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    assert str(load_settings("taskwell serve", ["--grpc-address", address]).grpc) == address


def test_other_addresses_are_served_on_a_trusted_network() -> None:
    settings = load_settings("taskwell serve", ["--grpc-address", "0.0.0.0:50051", "--trust-network"])
    assert settings.grpc == Address("0.0.0.0", 50051)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 1),
        (["--workers", "3"], 3),
        (["--database-url", "postgresql://db/tasks"], 2),
        (["--database-url", "postgresql://db/tasks", "--workers", "auto"], 2),
        (["--database-url", "postgresql://db/tasks", "--workers", "1"], 1),
    ],
)
def test_a_worker_for_each_core_serves_from_postgresql(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: int
) -> None:
    monkeypatch.setattr("service.config.settings.usable_cpus", lambda: 2)
    assert load_settings("taskwell serve", flags).worker_count == expected


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), (None, 8)]
)
def test_the_cores_are_those_of_the_container(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("service.config.cpus._CGROUP_CPU", folder / "cpu.max")
    if limit:
        (folder / "cpu.max").write_text(f"{limit}\n")
    assert load_settings("taskwell serve", ["--database-url", "postgresql://db/tasks"]).worker_count == cores


def test_several_workers_are_refused_where_connections_are_not_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.config.settings._SPREADS_CONNECTIONS", False)
    assert load_settings("taskwell serve", ["--database-url", "postgresql://db/tasks"]).worker_count == 1
    assert load_settings("taskwell serve", ["--workers", "1"]).worker_count == 1
    with pytest.raises(SettingsError, match="TASKWELL_WORKERS: must be 1 on this system"):
        load_settings("taskwell serve", ["--workers", "2"])


def test_a_worker_inherits_the_settings_and_reads_no_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("TASKWELL_USERS=known\n")
    monkeypatch.setenv("TASKWELL_MAX_IN_FLIGHT", "3")
    flags = ["--database-url", "postgresql://u:s3cret@db/tasks", "--trust-network", "--max-in-flight", "4"]
    settings = load_settings("taskwell serve", [*flags, "--shutdown-grace", "1.5", "--workers", "2"])
    (folder / ".env").write_text("TASKWELL_USERS=any\nTASKWELL_LOG_LEVEL=debug\n")
    environment = settings.as_environment({"PATH": "/bin", "TASKWELL_LOG_LEVEL": "error", "TASKWELL_PORT": "tcp://1"})
    assert (environment["PATH"], environment["TASKWELL_PORT"]) == ("/bin", "tcp://1")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert "TASKWELL_LOG_LEVEL" not in environment
    inherited = inherited_settings()
    assert settings.model_dump() == inherited.model_dump()
    assert settings.model_fields_set == inherited.model_fields_set


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings("taskwell serve", []).max_in_flight = 1


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_an_ipv6_address_is_read_and_written_in_brackets() -> None:
    assert parse_address("[::1]:1") == Address("::1", 1)
    assert str(Address("::1", 1)) == "[::1]:1"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cret@db.example:6543/tasks?sslmode=require",
        "postgres://user:s3cret@db.example:6543/tasks?sslmode=require",
        "postgresql+psycopg://user:s3cret@db.example:6543/tasks?sslmode=require",
        "host=db.example port=6543 dbname=tasks user=user password=s3cret sslmode=require",
    ],
)
def test_every_form_of_a_postgresql_url_is_the_same_database_and_hides_its_password(url: str) -> None:
    shown = str(parse_database_url(url))
    for part in ("user=user", "password=***", "host=db.example", "port=6543", "dbname=tasks", "sslmode=require"):
        assert part in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@one:1,two:2/tasks?target_session_attrs=read-write",
        "postgresql+psycopg://u@/tasks?host=one:1&host=two:2&target_session_attrs=read-write",
        "host=one,two port=1,2 dbname=tasks user=u target_session_attrs=read-write",
    ],
)
def test_several_hosts_may_be_given(url: str) -> None:
    shown = str(parse_database_url(url))
    for part in ("host=one,two", "port=1,2", "target_session_attrs=read-write"):
        assert part in shown


def test_what_a_url_says_comes_before_our_defaults() -> None:
    url = parse_database_url("postgresql://db/tasks?connect_timeout=3&application_name=mine")
    assert "connect_timeout=3" in getattr(url, "conninfo", "")
    assert "application_name=mine" in getattr(url, "conninfo", "")


SECRET = "a secret of at least thirty-two bytes"
KEYED = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}
PUBLISHED = {**KEYED, "jwt_secret": "", "jwt_jwks": "https://issuer.example/jwks"}


def load_with(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(f"TASKWELL_{name.upper()}", value)
    return load_settings("taskwell serve", [])


@pytest.mark.parametrize("values", [KEYED, PUBLISHED])
def test_signed_tokens_need_no_trust_in_the_network(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    assert load_with(monkeypatch, {**values, "grpc_address": "0.0.0.0:50051"}).auth == "jwt"


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({"auth": "jwt"}, ["TASKWELL_JWT_JWKS: ", "TASKWELL_JWT_ISSUER: ", "TASKWELL_JWT_AUDIENCE: "]),
        ({**KEYED, "jwt_secret": ""}, ["TASKWELL_JWT_JWKS: jwt needs keys"]),
        ({**KEYED, "jwt_jwks": "jwks.json"}, ["TASKWELL_JWT_SECRET: set either this or TASKWELL_JWT_JWKS"]),
        ({**KEYED, "jwt_issuer": ""}, ["TASKWELL_JWT_ISSUER: jwt needs it"]),
        ({**PUBLISHED, "jwt_audience": ""}, ["TASKWELL_JWT_AUDIENCE: jwt needs it"]),
        ({**KEYED, "jwt_read_scope": "read"}, ["TASKWELL_JWT_SCOPE_CLAIM: set it as well"]),
        ({**KEYED, "auth": "metadata"}, [f"TASKWELL_JWT_{name}: " for name in ("AUDIENCE", "ISSUER", "SECRET")]),
        ({"jwt_jwks": "jwks.json"}, ["TASKWELL_JWT_JWKS: means nothing unless TASKWELL_AUTH=jwt"]),
        ({"jwt_scope_claim": "scope"}, ["TASKWELL_JWT_SCOPE_CLAIM: means nothing"]),
    ],
)
def test_settings_of_tokens_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], sentences: list[str]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_with(monkeypatch, values)
    lines = str(refusal.value).splitlines()
    assert [line for line, sentence in zip(lines, sentences, strict=True) if not line.startswith(sentence)] == []
    assert SECRET not in str(refusal.value)


SERVED = {"tls_cert": "server.pem", "tls_key": "server-key.pem"}
MUTUAL = {**SERVED, "tls_client_ca": "clients.pem", "tls_client_names": "gateway.example"}


def test_mutual_tls_needs_no_trust_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, {**MUTUAL, "grpc_address": "0.0.0.0:50051"}).tls is not None


def test_tls_alone_says_nothing_of_who_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="TASKWELL_GRPC_ADDRESS: other machines can reach"):
        load_with(monkeypatch, {**SERVED, "grpc_address": "0.0.0.0:50051"})


def test_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, {**MUTUAL, "tls_client_names": "gateway.example , spiffe://example/a,"})
    assert settings.client_names == ("gateway.example", "spiffe://example/a")


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({"tls_cert": "a"}, ["TASKWELL_TLS_KEY: TASKWELL_TLS_CERT needs it"]),
        ({"tls_key": "a"}, ["TASKWELL_TLS_CERT: TASKWELL_TLS_KEY needs it"]),
        ({**MUTUAL, "tls_cert": "", "tls_key": ""}, ["TASKWELL_TLS_CERT: TASKWELL_TLS_CLIENT_CA needs it"]),
        ({**SERVED, "tls_client_names": "a"}, ["TASKWELL_TLS_CLIENT_CA: TASKWELL_TLS_CLIENT_NAMES needs it"]),
        ({**MUTUAL, "tls_client_names": ""}, ["TASKWELL_TLS_CLIENT_NAMES: mutual TLS with TASKWELL_AUTH=metadata"]),
        ({**KEYED, **MUTUAL, "tls_client_names": ","}, ["TASKWELL_TLS_CLIENT_NAMES: has no name in it"]),
        ({**SERVED, "health_cert": "a"}, ["TASKWELL_HEALTH_KEY: TASKWELL_HEALTH_CERT needs it"]),
        ({**SERVED, "health_key": "a"}, ["TASKWELL_HEALTH_CERT: TASKWELL_HEALTH_KEY needs it"]),
        ({"rate_burst": "5"}, ["TASKWELL_RATE_LIMIT: TASKWELL_RATE_BURST needs it"]),
        ({"health_ca": "a"}, ["TASKWELL_TLS_CERT: TASKWELL_HEALTH_CA needs it"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else ",".join(f"{name}={each}" for name, each in value.items()),
)
def test_settings_that_need_others_are_refused_without_them(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], sentences: list[str]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_with(monkeypatch, values)
    lines = str(refusal.value).splitlines()
    assert [line for line, sentence in zip(lines, sentences, strict=True) if not line.startswith(sentence)] == []
