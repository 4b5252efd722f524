"""Settings: sources and precedence, validation, secrets."""

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


def test_default_settings_are_valid() -> None:
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
        ("jwt_scope_claim", "a b", "pattern"),
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
def test_an_invalid_setting_is_refused_and_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"TASKWELL_{name.upper()}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings("taskwell serve", [])
    message = str(refused.value)
    assert message.startswith(f"TASKWELL_{name.upper()}: ")
    assert sentence in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rest-hosts", "tasks.example"], "TASKWELL_REST_ADDRESS: is required by TASKWELL_REST_HOSTS"),
        (
            ["--rest-cors-origins", "https://app.example"],
            "TASKWELL_REST_ADDRESS: is required by TASKWELL_REST_CORS_ORIGINS",
        ),
        (
            ["--rest-address", "127.0.0.1:0", "--rest-cors-origins", "*"],
            "TASKWELL_REST_CORS_ORIGINS: * with TASKWELL_AUTH=metadata would let every",
        ),
    ],
)
def test_contradictory_rest_settings_are_refused(flags: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings("taskwell serve", flags)
    assert str(refused.value).startswith(sentence)


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
def test_rest_hosts_default_to_localhost_unless_the_network_is_trusted(
    flags: list[str], hosts: tuple[str, ...] | None
) -> None:
    assert load_settings("taskwell serve", flags).hosts == hosts


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc_address", "127.0.0.1:1"),
        ("rest_address", "127.0.0.1:1"),
        ("rest_hosts", "a.example,b.example"),
        ("rest_cors_origins", "https://a.example"),
        ("metrics_address", "127.0.0.1:1"),
        ("workers", "1"),
        ("database_url", "postgresql://user:password@host/tasks"),
        ("database_url", "host=host dbname=tasks"),
        ("jwt_jwks", "https://issuer.example/jwks"),
        ("jwt_issuer", "https://issuer.example"),
        ("jwt_audience", "tasks"),
        ("jwt_scope_claim", "scope"),
        ("jwt_read_scope", "read"),
        ("users", "known"),
        ("reflection", "off"),
        ("log_level", "debug"),
        ("max_in_flight", "7"),
        ("shutdown_grace", "7"),
        ("migrate", "true"),
    ],
)
def test_a_newline_at_the_end_of_a_setting_is_removed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, newline: str
) -> None:
    if name.startswith("jwt_"):
        others = {"AUTH": "jwt", "JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "JWT_JWKS": "j", "JWT_SCOPE_CLAIM": "s"}
        for other, text in others.items():
            monkeypatch.setenv(f"TASKWELL_{other}", text)
    if name in {"rest_hosts", "rest_cors_origins"}:
        monkeypatch.setenv("TASKWELL_REST_ADDRESS", "127.0.0.1:0")
    monkeypatch.setenv(f"TASKWELL_{name.upper()}", value)
    expected = getattr(load_settings("taskwell serve", []), name)
    monkeypatch.setenv(f"TASKWELL_{name.upper()}", value + newline)
    assert getattr(load_settings("taskwell serve", []), name) == expected


def test_every_setting_of_text_is_a_single_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        if "str" in str(field.annotation).lower() and name != "jwt_secret":
            with monkeypatch.context() as environment:
                environment.setenv(f"TASKWELL_{name.upper()}", "a\nb")
                with pytest.raises(SettingsError) as refused:
                    load_settings("taskwell serve", [])
            assert f"TASKWELL_{name.upper()}: must be a single line" in str(refused.value)


def test_a_secret_that_ends_with_a_newline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKWELL_JWT_SECRET", "s" * 32 + "\n")
    with pytest.raises(SettingsError, match="TASKWELL_JWT_SECRET: must not end with a newline"):
        load_settings("taskwell serve", [])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("TASKWELL_USER=known", "TASKWELL_USER: there is no such setting; did you mean TASKWELL_USERS?"),
        ("TASKWEL_USERS=known", "TASKWEL_USERS: there is no such setting; did you mean TASKWELL_USERS?"),
        ("TASKWELL-USERS=known", "TASKWELL-USERS: there is no such setting; did you mean TASKWELL_USERS?"),
        ("TASKWELL_FORGOTTEN=1", "TASKWELL_FORGOTTEN: there is no such setting (in the file .env)"),
        ("TASKWELL_USERS", "TASKWELL_USERS: has no value in the file .env: write TASKWELL_USERS=value"),
        ("TASKWELL_USERS known", "the file .env, line 2: is not of the form NAME=value"),
        ("TASKWELL_USERS: known", "the file .env, line 2: is not of the form NAME=value"),
        ("TASKWELL_USERS='known", "the file .env, line 2: is not of the form NAME=value"),
        ("TASKWELL_USERS=known\nTASKWELL USERS", "the file .env, line 3: is not of the form NAME=value"),
    ],
)
def test_a_misspelled_line_in_env_file_is_refused(folder: Path, line: str, sentence: str) -> None:
    (folder / ".env").write_text(f"# comment\n{line}\n")
    with pytest.raises(SettingsError) as refused:
        load_settings("taskwell serve", [])
    assert sentence in str(refused.value)


def test_variables_of_others_in_env_file_are_ignored(folder: Path) -> None:
    lines = (
        "POSTGRES_PASSWORD=secret",
        "TASKWELL_CLIENT_TOKEN=token",
        "EMPTY",
        "export taskwell_users=known",
        "TASKS=1",
    )
    (folder / ".env").write_text("\n".join(lines))
    assert load_settings("taskwell serve", []).users == "known"


def test_a_variable_with_a_misspelled_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKWEL_GRPC_ADDRESS", "127.0.0.1:1")
    with pytest.raises(SettingsError, match="did you mean TASKWELL_GRPC_ADDRESS"):
        load_settings("taskwell serve", [])


def test_all_invalid_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings("taskwell serve", ["--max-in-flight", "0", "--users", "some"])
    assert len(str(refused.value).splitlines()) == 2


def test_precedence_is_flags_then_environment_then_env_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file = "TASKWELL_MAX_IN_FLIGHT=1\nTASKWELL_USERS=known\nTASKWELL_LOG_LEVEL=debug\nOTHER=1\n"
    (folder / ".env").write_text(env_file)
    for name, value in {"MAX_IN_FLIGHT": "2", "LOG_LEVEL": "error", "USERS": ""}.items():
        monkeypatch.setenv(f"TASKWELL_{name}", value)
    settings = load_settings("taskwell serve", ["--max-in-flight", "3"])
    assert (settings.max_in_flight, settings.log_level, settings.users) == (3, "error", "known")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.1.2.3:1", "[::1]:65535", "localhost:50051"])
def test_trust_network_is_not_needed_on_loopback_addresses(address: str) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    assert str(load_settings("taskwell serve", ["--grpc-address", address]).grpc) == address


def test_trust_network_allows_other_addresses() -> None:
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
def test_workers_auto_is_one_per_cpu_on_postgresql(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: int
) -> None:
    monkeypatch.setattr("service.config.settings.usable_cpus", lambda: 2)
    assert load_settings("taskwell serve", flags).worker_count == expected


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), (None, 8)]
)
def test_cpus_are_limited_by_the_cgroup(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("service.config.cpus._CGROUP_CPU", folder / "cpu.max")
    if limit:
        (folder / "cpu.max").write_text(f"{limit}\n")
    assert load_settings("taskwell serve", ["--database-url", "postgresql://db/tasks"]).worker_count == cores


def test_several_workers_are_refused_on_other_systems_than_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.config.settings._SPREADS_CONNECTIONS", False)
    assert load_settings("taskwell serve", ["--database-url", "postgresql://db/tasks"]).worker_count == 1
    assert load_settings("taskwell serve", ["--workers", "1"]).worker_count == 1
    with pytest.raises(SettingsError, match="TASKWELL_WORKERS: must be 1 on this system"):
        load_settings("taskwell serve", ["--workers", "2"])


def test_a_worker_inherits_the_settings_of_the_supervisor_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings("taskwell serve", []).max_in_flight = 1


def test_every_setting_has_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_an_ipv6_address_is_parsed_and_printed_in_brackets() -> None:
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
def test_every_form_of_a_postgresql_url_hides_the_password(url: str) -> None:
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
def test_a_postgresql_url_may_name_several_hosts(url: str) -> None:
    shown = str(parse_database_url(url))
    for part in ("host=one,two", "port=1,2", "target_session_attrs=read-write"):
        assert part in shown


def test_parameters_of_a_database_url_override_the_defaults() -> None:
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
def test_trust_network_is_not_needed_with_jwt(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    assert load_with(monkeypatch, {**values, "grpc_address": "0.0.0.0:50051"}).auth == "jwt"


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({"auth": "jwt"}, ["TASKWELL_JWT_JWKS: ", "TASKWELL_JWT_ISSUER: ", "TASKWELL_JWT_AUDIENCE: "]),
        ({**KEYED, "jwt_secret": ""}, ["TASKWELL_JWT_JWKS: TASKWELL_AUTH=jwt requires keys"]),
        ({**KEYED, "jwt_jwks": "jwks.json"}, ["TASKWELL_JWT_SECRET: set either this or TASKWELL_JWT_JWKS"]),
        ({**KEYED, "jwt_issuer": ""}, ["TASKWELL_JWT_ISSUER: is required by TASKWELL_AUTH=jwt"]),
        ({**PUBLISHED, "jwt_audience": ""}, ["TASKWELL_JWT_AUDIENCE: is required by TASKWELL_AUTH=jwt"]),
        ({**KEYED, "jwt_read_scope": "read"}, ["TASKWELL_JWT_SCOPE_CLAIM: must be set too"]),
        ({**KEYED, "auth": "metadata"}, [f"TASKWELL_JWT_{name}: " for name in ("AUDIENCE", "ISSUER", "SECRET")]),
        ({"jwt_jwks": "jwks.json"}, ["TASKWELL_JWT_JWKS: has no effect without TASKWELL_AUTH=jwt"]),
        ({"jwt_scope_claim": "scope"}, ["TASKWELL_JWT_SCOPE_CLAIM: has no effect"]),
    ],
)
def test_contradictory_jwt_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], sentences: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_with(monkeypatch, values)
    lines = str(refused.value).splitlines()
    assert [line for line, sentence in zip(lines, sentences, strict=True) if not line.startswith(sentence)] == []
    assert SECRET not in str(refused.value)


SERVED = {"tls_cert": "server.pem", "tls_key": "server-key.pem"}
MUTUAL = {**SERVED, "tls_client_ca": "clients.pem", "tls_client_names": "gateway.example"}


def test_trust_network_is_not_needed_with_mutual_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, {**MUTUAL, "grpc_address": "0.0.0.0:50051"}).tls is not None


def test_trust_network_is_needed_with_server_tls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="TASKWELL_GRPC_ADDRESS: other machines can reach"):
        load_with(monkeypatch, {**SERVED, "grpc_address": "0.0.0.0:50051"})


def test_tls_client_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, {**MUTUAL, "tls_client_names": "gateway.example , spiffe://example/a,"})
    assert settings.client_names == ("gateway.example", "spiffe://example/a")


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({"tls_cert": "a"}, ["TASKWELL_TLS_KEY: is required by TASKWELL_TLS_CERT"]),
        ({"tls_key": "a"}, ["TASKWELL_TLS_CERT: is required by TASKWELL_TLS_KEY"]),
        ({**MUTUAL, "tls_cert": "", "tls_key": ""}, ["TASKWELL_TLS_CERT: is required by TASKWELL_TLS_CLIENT_CA"]),
        ({**SERVED, "tls_client_names": "a"}, ["TASKWELL_TLS_CLIENT_CA: is required by TASKWELL_TLS_CLIENT_NAMES"]),
        (
            {**MUTUAL, "tls_client_names": ""},
            ["TASKWELL_TLS_CLIENT_NAMES: is required by mutual TLS with TASKWELL_AUTH=metadata"],
        ),
        ({**KEYED, **MUTUAL, "tls_client_names": ","}, ["TASKWELL_TLS_CLIENT_NAMES: contains no name"]),
        ({**SERVED, "health_cert": "a"}, ["TASKWELL_HEALTH_KEY: is required by TASKWELL_HEALTH_CERT"]),
        ({**SERVED, "health_key": "a"}, ["TASKWELL_HEALTH_CERT: is required by TASKWELL_HEALTH_KEY"]),
        ({"rate_burst": "5"}, ["TASKWELL_RATE_LIMIT: is required by TASKWELL_RATE_BURST"]),
        ({"health_ca": "a"}, ["TASKWELL_TLS_CERT: is required by TASKWELL_HEALTH_CA"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else ",".join(f"{name}={each}" for name, each in value.items()),
)
def test_a_setting_is_refused_without_the_one_it_requires(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], sentences: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_with(monkeypatch, values)
    lines = str(refused.value).splitlines()
    assert [line for line, sentence in zip(lines, sentences, strict=True) if not line.startswith(sentence)] == []
