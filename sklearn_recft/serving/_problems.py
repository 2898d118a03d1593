"""Errors of the service: problem documents of RFC 9457, each with a type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

# Types of problems, with their status and title. A client decides by the type.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "unauthorized": (401, "No valid key or token"),
    "forbidden": (403, "The key does not allow this"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "The route has other methods"),
    "timeout": (408, "The request did not arrive in time"),
    "behind": (409, "The event has not been learned yet"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body is no JSON"),
    "invalid": (422, "The request is not valid"),
    "too-many-requests": (429, "The rate of the key is used up"),
    "queue-full": (429, "Too many requests are waiting"),
    "internal": (500, "An error of the service"),
    "not-ready": (503, "The service is not ready"),
}


class Problem(Exception):
    """An error that is answered with a problem document.

    Parameters
    ----------
    kind : str
        A key of ``PROBLEMS``.
    detail : str
        What went wrong, for the client. It is never logged.
    retry_after : int, default=0
        Seconds for the header ``Retry-After``; 0 leaves it out.
    errors : list of dict, default=()
        Faults of single fields.
    """

    def __init__(
        self, kind: str, detail: str = "", *, retry_after: int = 0, errors: Any = ()
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.errors = errors

    def response(self) -> Response:
        """Return the answer."""
        status, title = PROBLEMS[self.kind]
        content: dict[str, Any] = {
            "type": f"urn:recft:problem:{self.kind}",
            "title": title,
            "status": status,
            "detail": self.detail,
        }
        if self.errors:
            content["errors"] = list(self.errors)
        headers = {}
        if self.retry_after:
            headers["Retry-After"] = str(self.retry_after)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(json.dumps(content), status, headers, media_type="application/problem+json")


_OF_STATUS = {status: kind for kind, (status, _) in reversed(list(PROBLEMS.items()))}


def problem_of_status(status: int, detail: str) -> Problem:
    """Return the problem for an error of the framework, such as 404 and 405."""
    return Problem(_OF_STATUS.get(status, "invalid" if status < 500 else "internal"), detail)


def faults_of(errors: Any) -> list[dict[str, str]]:
    """Return where a body differs from its schema, without the values of the body."""
    return [
        {
            "at": "/".join(str(part) for part in one["loc"]),
            "fault": str(one["type"]),
            "message": str(one["msg"]),
        }
        for one in list(errors)[:20]
    ]
