"""Which pages of other origins may call: CORS, and its refusals as this door words refusals."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from service.rest.errors import of_refusal
from service.rest.refusals import Refusal


class Origins(CORSMiddleware):
    """Starlette's, but for what a refused preflight is answered."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        said = bytes(answer.body).decode()
        told = of_refusal(Refusal(f"{said}: TASKWELL_REST_CORS_ORIGINS does not allow it.", "CORS_REFUSED"))
        refused = Response(told.body, told.status)
        kept = [(name, value) for name, value in answer.raw_headers if not name.startswith(b"content-")]
        refused.raw_headers.extend([*told.headers, *kept])
        return refused
