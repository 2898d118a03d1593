"""The application: routes, each with the scope it needs, around a loop."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sklearn_recft.serving import _messages as messages
from sklearn_recft.serving._access import Access, Verifier
from sklearn_recft.serving._audit import AuditLog
from sklearn_recft.serving._edge import PRINCIPAL, Edge
from sklearn_recft.serving._keys import KeyFile
from sklearn_recft.serving._limits import Limits, RateLimiter
from sklearn_recft.serving._loop import Loop
from sklearn_recft.serving._problems import Problem, faults_of, problem_of_status
from sklearn_recft.serving._service import Options, Service
from sklearn_recft.serving._tokens import TokenVerifier

if TYPE_CHECKING:
    from fastapi import FastAPI

_FEEDBACK = {"click": 1.0, "purchase": 3.0, "skip": 0.0}
# Kinds of events that a model of positives learns.
_POSITIVES = ("click", "purchase")


@dataclass(frozen=True)
class Route:
    """One route, and the scope that a key needs for it; None is for everybody."""

    method: str
    path: str
    scope: str | None
    does: str
    answer: Any = None
    status: int = 200


ROUTES = (
    Route("POST", "/v1/events", "events:write", "append_events", messages.Acknowledged, 202),
    Route("POST", "/v1/recommend", "recommend:read", "recommend", messages.Lists),
    Route("POST", "/v1/predict", "recommend:read", "predict", messages.Predictions),
    Route("DELETE", "/v1/users/{user_id}", "privacy:admin", "forget_user", messages.Forgotten),
    Route("GET", "/v1/users/{user_id}/export", "privacy:admin", "export_user", dict[str, Any]),
    Route("GET", "/v1/models", "model:admin", "list_models", messages.Models),
    Route("POST", "/v1/models", "model:admin", "save_model", messages.Served),
    Route("POST", "/v1/models/rollback", "model:admin", "roll_back_model", messages.Served),
    Route("POST", "/v1/models/{name}/promote", "model:admin", "promote_model", messages.Served),
    Route("GET", "/metrics", "metrics:read", "metrics_page"),
    Route("GET", "/health/live", None, "live", messages.Health),
    Route("GET", "/health/ready", None, "ready", messages.Health),
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem", "model": messages.ProblemDocument},
    422: {"description": "The request is not valid", "model": messages.ProblemDocument},
}


def create_app(
    loop: Loop,
    *,
    keys: KeyFile | None = None,
    tokens: TokenVerifier | None = None,
    limits: Limits | None = None,
    audit: AuditLog | None = None,
    feedback: Mapping[str, float] | None = _FEEDBACK,
    exclude_seen: bool = True,
    watched: float = 0.1,
    tenant: str = "default",
) -> "FastAPI":
    """Return an ASGI application that serves a loop.

    It starts the loop when the server starts, and stops it when the server stops.

    Parameters
    ----------
    loop : Loop
    keys : KeyFile, default=None
        Keys with their scopes. Without keys and tokens, only this machine is answered.
    tokens : TokenVerifier, default=None
        Tokens of an identity provider, in place of keys or beside them.
    limits : Limits, default=None
        Sizes and rates; None takes the defaults.
    audit : AuditLog, default=None
        Where changes of models and erased users are written down.
    feedback : mapping of str to float, or None
        Feedback by kind of event, as in `Loop`; an event of another kind needs a value. None: the
        model learns positives, of the kinds "click" and "purchase".
    exclude_seen : bool, default=True
        Whether lists leave out what the user has had, if the request does not say.
    watched : float, default=0.1
        Share of the requests with events for which the model predicts the feedback before they are
        stored, for the loss and the shares of unknown ids in ``/metrics``.
    tenant : str, default="default"
        The tenant that is served. Keys of other tenants are refused.

    Returns
    -------
    app : fastapi.FastAPI

    Raises
    ------
    ImportError
        Without the extra ``[serve]``.

    Examples
    --------
    >>> from sklearn_recft.serving import Loop, create_app  # doctest: +SKIP
    >>> app = create_app(Loop(model, store, "models"))  # doctest: +SKIP
    >>> import uvicorn  # doctest: +SKIP
    >>> uvicorn.run(app, access_log=False)  # doctest: +SKIP
    """
    try:
        from fastapi import Depends, FastAPI
        from fastapi.exceptions import RequestValidationError
    except ImportError as error:
        raise ImportError(
            "The service needs fastapi: pip install 'sklearn-recft[serve]'"
        ) from error
    limits = limits or Limits()
    kinds = tuple(_POSITIVES if feedback is None else feedback)
    service = Service(loop, limits, audit, Options(feedback, kinds, exclude_seen, watched))
    verifiers: tuple[Verifier, ...] = tuple(one for one in (keys, tokens) if one is not None)
    access = Access(verifiers, RateLimiter(limits.rates), tenant)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        with loop:
            service.watch.begin()
            yield
        service.close()

    app = FastAPI(
        title="sklearn_recft",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for route in ROUTES:
        gate = [] if route.scope is None else [Depends(_gate(access, route.scope))]
        security = [] if route.scope is None else [{"key": [route.scope]}]
        app.add_api_route(
            route.path,
            getattr(service, route.does),
            methods=[route.method],
            status_code=route.status,
            dependencies=gate,
            response_model=route.answer,
            responses=_PROBLEMS,
            openapi_extra={"security": security},
            operation_id=route.does,
        )
    app.add_api_route(
        "/openapi.json",
        _described(app),
        methods=["GET"],
        openapi_extra={"security": []},
        operation_id="openapi",
    )
    app.add_middleware(Edge, access=access, watcher=service.watch.metrics, max_body=limits.max_body)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    return app


def _gate(access: Access, scope: str) -> Callable[..., Any]:
    async def check(request: Request) -> None:
        access.allow(request.scope[PRINCIPAL], scope)

    return check


def _described(app: "FastAPI") -> Callable[..., Any]:
    """Return the route of the OpenAPI document."""

    async def openapi() -> Response:
        """Return this document."""
        document = app.openapi()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        return JSONResponse(document)

    return openapi


async def _invalid(request: Request, error: Any) -> Response:
    return Problem("invalid", "See errors.", errors=faults_of(error.errors())).response()


async def _of_framework(request: Request, error: Any) -> Response:
    return problem_of_status(error.status_code, "").response()
