"""Run an application by uvicorn: one process, one address, no log that could hold an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn_recft.serving._access import is_loopback

if TYPE_CHECKING:
    import uvicorn

# Seconds that an idle connection stays, and that requests may take when the server stops.
_KEEP_ALIVE, _SHUTDOWN = 30, 10
# Largest request line with all headers, in bytes.
_MAX_HEADERS = 16_384


def make_server(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    secured: bool = False,
    certificate: str | None = None,
    private_key: str | None = None,
) -> uvicorn.Server:
    """Return a server of uvicorn for an application of `create_app`; ``run()`` starts it.

    Parameters
    ----------
    app : ASGI application
    host : str, default="127.0.0.1"
        Address to bind to.
    port : int, default=8000
        0 takes a free one.
    secured : bool, default=False
        Whether the application was made with keys or tokens. Otherwise only an address of this
        machine may be bound.
    certificate, private_key : str, default=None
        Files for HTTPS, in PEM. Behind a proxy that ends HTTPS, leave them out.

    Returns
    -------
    server : uvicorn.Server

    Raises
    ------
    ValueError
        If ``host`` can be reached by others, and ``secured`` is False.
    ImportError
        Without uvicorn (extra ``[serve]``).
    """
    if not secured and not is_loopback(host):
        raise ValueError(
            f"host={host!r} can be reached from other machines: give keys (--keys FILE), or bind "
            "to 127.0.0.1."
        )
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(
            "The service needs uvicorn: pip install 'sklearn-recft[serve]'"
        ) from error
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            access_log=False,  # it writes paths, and they hold ids of users
            log_level="warning",
            server_header=False,
            proxy_headers=False,  # whoever sends them could pretend to be this machine
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_SHUTDOWN,
            h11_max_incomplete_event_size=_MAX_HEADERS,
            ssl_certfile=certificate,
            ssl_keyfile=private_key,
        )
    )
