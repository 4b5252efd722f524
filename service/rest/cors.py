"""CORS: refused preflights get the gateway's JSON errors."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from service.rest.http_error import HttpError
from service.rest.responses import response_to_http_error


class Cors(CORSMiddleware):
    """Starlette's middleware, with another response to a refused preflight."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        problem = f"{bytes(response.body).decode()}: TASKWELL_REST_CORS_ORIGINS does not allow it."
        error = response_to_http_error(HttpError(problem, "CORS_REFUSED"))
        refused = Response(error.body, error.status)
        kept = [(name, value) for name, value in response.raw_headers if not name.startswith(b"content-")]
        refused.raw_headers.extend([*error.headers, *kept])
        return refused
