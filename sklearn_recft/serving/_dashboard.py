"""The dashboard: one page without data, which asks the routes of JSON with the reader's key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files

from starlette.responses import Response

# Nothing but our own files runs or is loaded, and no text can become a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def dashboard_pages(*, secured: bool) -> dict[str, Callable[[], Awaitable[Response]]]:
    """Return the functions that answer for each file of the dashboard, by path.

    Parameters
    ----------
    secured : bool
        Whether the page asks for keys before it reads anything.
    """
    page = _text("dashboard.html")
    if secured:
        page = page.replace('data-keys="none"', 'data-keys="needed"')

    async def dashboard() -> Response:
        """Return the page of the dashboard."""
        return Response(page, headers=_HEADERS, media_type="text/html")

    async def dashboard_style() -> Response:
        """Return the style of the dashboard."""
        return Response(_text("dashboard.css"), headers=_HEADERS, media_type="text/css")

    async def dashboard_script() -> Response:
        """Return the script of the dashboard."""
        return Response(_text("dashboard.js"), headers=_HEADERS, media_type="text/javascript")

    return {
        "/dashboard": dashboard,
        "/dashboard.css": dashboard_style,
        "/dashboard.js": dashboard_script,
    }


@cache
def _text(name: str) -> str:
    return files("sklearn_recft.serving").joinpath("pages", name).read_text(encoding="utf-8")
