"""The documentation page: in a real browser, and what its files say to one."""

import json
import re
import time
from pathlib import Path

import pytest

from service.auth.dev_tokens import mint_token
from service.rest.docs_pages import ASSETS
from service.server.authentication import expected_of
from tests.rest.browser import browsing, missing
from tests.rest.client import Client
from tests.rest.try_it_out import Docs
from tests.running import Addresses, new_user, running_addresses, settings_for
from tools.assets import ASSETS as SWAGGER_UI
from tools.assets import FILES, checksums

AXE = Path(__file__).parents[2] / ".npm" / "node_modules" / "axe-core" / "axe.min.js"
DOCUMENT = Path(__file__).parents[2] / "generated" / "openapi" / "taskwell.v1.json"
SECRET = "what both of them know and nobody else"
TOKENS = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}


needs_browser = pytest.mark.skipif(bool(missing()), reason=f"{missing()} not installed: the page was not tried")


@needs_browser
def test_a_person_creates_a_task_on_the_page_and_reads_it_back(addresses: Addresses) -> None:
    with browsing() as page:
        docs = Docs(page, f"http://{addresses.rest}")
        docs.authorize(user=new_user())
        status, made = docs.call("CreateTask", body='{"title": "Buy milk", "description": "Käse too"}')
        assert (status, made["title"], made["description"]) == (200, "Buy milk", "Käse too")
        assert docs.call("GetTask", id=made["id"]) == (200, made)
        assert docs.call("ListTasks", status="TASK_STATUS_COMPLETE") == (200, {"tasks": [], "nextPageToken": ""})
        assert page.said() == []
        asked_for = page.asked_for()
    assert f"http://{addresses.rest}/v1/tasks/{made['id']}" in asked_for
    assert [url for url in asked_for if not url.startswith(f"http://{addresses.rest}/")] == []


@needs_browser
def test_a_person_may_have_a_token(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, rest_address="127.0.0.1:0", **TOKENS)
    token = mint_token(SECRET, expected_of(settings), new_user(), "", int(time.time()), 300)
    with running_addresses(settings) as addresses, browsing() as page:
        docs = Docs(page, f"http://{addresses.rest}")
        docs.authorize(token=token)
        status, made = docs.call("CreateTask", body='{"title": "Buy milk"}')
        assert (status, made["title"], page.said()) == (200, "Buy milk", [])


@needs_browser
def test_the_page_fits_a_phone_follows_the_theme_and_is_accessible(addresses: Addresses) -> None:
    with browsing(390, 800) as page:
        page.emulate(390, "dark")
        docs = Docs(page, f"http://{addresses.rest}")
        docs.authorize(user=new_user())
        assert docs.call("CreateTask", body='{"title": "Buy milk"}')[0] == 200
        assert page.evaluate("return document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate("return document.documentElement.classList.contains('dark-mode')")
        assert (
            page.evaluate("return document.querySelectorAll('.servers, .scheme-container .servers-title').length") == 0
        )
        block = "#operations-TaskService-CreateTask"
        body, headers = f"{block} .opblock-section-request-body", f"{block} details.headers"
        top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
        assert page.evaluate(top, body) < page.evaluate(top, headers)
        if AXE.exists():  # from npm: `make openapi-clients` and `make docs-page` install it
            page.evaluate(AXE.read_text())
            found = page.evaluate_async("axe.run().then(arguments[arguments.length - 1])")
            assert [each["id"] for each in found["violations"] if each["impact"] == "critical"] == []
        assert page.said() == []


def test_the_document_is_served_and_kept_until_it_changes(client: Client) -> None:
    answer = client.send("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document = json.loads(DOCUMENT.read_bytes())
    del document["components"]["securitySchemes"]["token"]
    assert {**answer.json, "paths": None} == {**document, "paths": None}
    securities = [each["security"] for path in answer.json["paths"].values() for each in path.values()]
    assert {*map(str, securities)} == {"[{'user': []}]", "[]"}
    assert answer.headers["cache-control"] == "no-cache"
    again = client.send("GET", "/openapi.json", {"if-none-match": f'"other", {answer.headers["etag"]}'})
    assert (again.status, again.body) == (304, b"")
    assert answer.headers["etag"] == again.headers["etag"]
    assert client.send("GET", "/openapi.json", {"if-none-match": '"other"'}).status == 200


def test_the_page_loads_its_own_files_and_runs_no_script_but_them(client: Client) -> None:
    page = client.send("GET", "/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    links = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert {"docs/start.js", "openapi.json"} < set(links)
    for link in links:
        answer = client.send("GET", f"/{link}")
        assert (answer.status, answer.headers["x-content-type-options"]) == (200, "nosniff")


@pytest.mark.parametrize(
    "path", ["/docs/", "/docs/index.html", "/docs/../openapi.json", "/docs/%2e%2e/pages.py", "/docs/SHA256SUMS"]
)
def test_there_is_nothing_else_below_the_page(client: Client, path: str) -> None:
    assert ((answer := client.send("GET", path)).status, answer.reason) == (404, "ROUTE_UNKNOWN")


@pytest.mark.parametrize("reflection", ["caller", "off"])
def test_what_reflection_does_not_say_the_page_does_not_either(sqlite_url: str, reflection: str) -> None:
    with running_addresses(settings_for(sqlite_url, rest_address="127.0.0.1:0", reflection=reflection)) as addresses:
        client = Client(addresses.rest)
        assert [client.send("GET", path).status for path in ("/docs", "/openapi.json", "/healthz")] == [404, 404, 200]
        client.close()


def test_a_page_takes_no_other_method(client: Client) -> None:
    answer = client.send("POST", "/docs", body="{}")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    head = client.send("HEAD", "/docs")
    assert (head.status, head.body) == (200, b"")


def test_the_assets_are_those_that_were_published() -> None:
    assert {*FILES, "SHA256SUMS"} == {path.name for path in SWAGGER_UI.iterdir()}
    assert (SWAGGER_UI / "SHA256SUMS").read_text() == checksums(SWAGGER_UI)
    assert [path for path in ASSETS.iterdir() if path.is_dir()] == [SWAGGER_UI]


def test_the_package_has_the_document_itself() -> None:
    assert json.loads((ASSETS / "openapi.json").read_bytes()) == json.loads(DOCUMENT.read_bytes())
