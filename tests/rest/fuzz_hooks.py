"""What schemathesis must know of the REST door that the document does not say."""

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: object) -> None:
    """Keep apart what does not go together, which JSON Schema cannot say of parameters."""
    headers, query = case.headers or {}, case.query or {}
    # This server believes tokens; what it does not look at proves nothing about them.
    headers.pop("x-user-id", None)


@schemathesis.check
def a_deadline_was_set(ctx: CheckContext, response: Response, case: Case) -> None:
    """Only a client that sets a deadline may hear that it has passed."""
    assert response.status_code != 504 or "Grpc-Timeout" in case.headers
