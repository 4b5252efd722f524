"""Takes the picture of the documentation page that docs/guide/rest.md shows: a task that was just created on it.

make docs-page
"""

import sys
import tempfile
from pathlib import Path

from service.log import configure_log
from tests.rest.browser import browsing, missing
from tests.rest.try_it_out import Docs
from tests.running import running_addresses, settings_for

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "rest-docs.png"


def main() -> int:
    if missing():
        print(f"docs-page: {missing()} not installed")
        return 1
    configure_log("error", "json")
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(f"sqlite:///{folder}/taskwell.db", rest_address="127.0.0.1:0")
        with running_addresses(settings) as addresses, browsing(1000, 1400) as page:
            docs = Docs(page, f"http://{addresses.rest}")
            docs.authorize(user="alice")
            docs.call("CreateTask", body='{"title": "Buy milk", "description": "Two litres"}')
            page.scroll_to("#operations-TaskService-CreateTask .opblock-section-request-body")
            page.screenshot(str(PICTURE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
