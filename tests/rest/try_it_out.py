"""What a person does on the documentation page: says who they are, opens a call, fills it in, sends it, reads on."""

import json
from typing import Any

from tests.rest.browser import Page


class Docs:
    """The page at /docs of a service."""

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        page.open(f"{address}/docs")

    def authorize(self, *, user: str = "", token: str = "") -> None:
        """Say who is calling: by the user's id, or by a token."""
        self._page.click("button.authorize")
        self._page.fill("#api_key_value" if user else "#auth-bearer-value", user or token)
        self._page.click(".auth-container button[type=submit]")
        self._page.click(".auth-container .btn-done")

    def call(self, operation: str, *, body: str | None = None, **parameters: str) -> tuple[int, Any]:
        """Open an operation, fill in its fields, and send it; answers status and JSON."""
        block = f"#operations-TaskService-{operation}"
        self._page.click(f"{block} .opblock-summary-control")
        for name, value in parameters.items():
            self._page.fill(f"{block} tr[data-param-name='{name}'] :is(input, select)", value)
        if body is not None:
            self._page.fill(f"{block} textarea.body-param__text", body)
        self._page.click(f"{block} button.execute")
        status = self._page.find(f"{block} .live-responses-table .response .response-col_status").text
        answer = self._page.find(f"{block} .live-responses-table .response .highlight-code code").text
        return int(status.split()[0]), json.loads(answer)
