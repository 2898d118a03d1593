"""The application: routes, each with the scope it needs, around a loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from sklearn_recft.loop import Loop
from sklearn_recft.serving import _messages as messages
from sklearn_recft.serving._access import Access, Verifier
from sklearn_recft.serving._audit import AuditLog
from sklearn_recft.serving._dashboard import dashboard_pages
from sklearn_recft.serving._edge import BODY, PRINCIPAL, Edge
from sklearn_recft.serving._keys import KeyFile
from sklearn_recft.serving._limits import Limits, RateLimiter
from sklearn_recft.serving._problems import Problem, faults_of, problem_of_status
from sklearn_recft.serving._service import Options, Service
from sklearn_recft.serving._tokens import TokenVerifier

if TYPE_CHECKING:
    from fastapi import FastAPI

# Kinds of events that a model of positives learns.
_POSITIVES = ("click", "purchase")


class _IdConvertor(Convertor[str]):
    """An id in a path: any text, of which slashes and line ends are a part."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """Return the id."""
        return value

    def to_string(self, value: str) -> str:
        """Return the id."""
        return value


register_url_convertor("recft_id", _IdConvertor())

# How the OpenAPI document names the schema of a message.
_SEE_SCHEMA = "See errors. /openapi.json has the fields of each route."
_REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Route:
    """One route, and the scope that a key needs for it; None is for everybody."""

    method: str
    path: str
    scope: str | None
    does: str
    answer: Any = None
    status: int = 200
    body: type[BaseModel] | None = None

    def described(self) -> dict[str, Any]:
        """Return what FastAPI does not find out by itself for the OpenAPI document."""
        found: dict[str, Any] = {"security": [{"key": [self.scope]}] if self.scope else []}
        if self.body is not None:
            schema = {"$ref": _REFERENCE.format(model=self.body.__name__)}
            content = {"application/json": {"schema": schema}}
            found["requestBody"] = {"required": True, "content": content}
        return found


ROUTES = (
    Route(
        "POST",
        "/v1/events",
        "events:write",
        "append_events",
        messages.Acknowledged,
        202,
        messages.NewEvents,
    ),
    Route(
        "POST",
        "/v1/recommend",
        "recommend:read",
        "recommend",
        messages.Lists,
        body=messages.ListRequest,
    ),
    Route(
        "POST",
        "/v1/predict",
        "recommend:read",
        "predict",
        messages.Predictions,
        body=messages.Rows,
    ),
    Route(
        "PUT",
        "/v1/items",
        "events:write",
        "put_items",
        messages.Acknowledged,
        202,
        messages.NewItems,
    ),
    Route("GET", "/v1/quality", "metrics:read", "quality", messages.QualityHistory),
    Route(
        "DELETE", "/v1/users/{user_id:recft_id}", "privacy:admin", "forget_user", messages.Forgotten
    ),
    Route(
        "GET", "/v1/users/{user_id:recft_id}/export", "privacy:admin", "export_user", dict[str, Any]
    ),
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
    exclude_seen: bool = True,
    watched: float | None = None,
    tenant: str = "default",
) -> "FastAPI":
    """Return an ASGI application that serves a loop.

    It starts the loop when the server starts, and stops it when the server stops.

    Parameters
    ----------
    loop : Loop
        Its `feedback` has the kinds of events that are taken; an event of another kind needs a
        value. None: the model learns positives, of the kinds "click" and "purchase".
    keys : KeyFile, default=None
        Keys with their scopes. Without keys and tokens, only this machine is answered.
    tokens : TokenVerifier, default=None
        Tokens of an identity provider, in place of keys or beside them.
    limits : Limits, default=None
        Sizes and rates; None takes the defaults.
    audit : AuditLog, default=None
        Where changes of models and erased users are written down.
    exclude_seen : bool, default=True
        Whether lists leave out what the user has had, if the request does not say.
    watched : float, default=None
        Share of the requests with events for which the model predicts the feedback before they are
        stored, for the loss and the shares of unknown ids in ``/metrics``. None: up to ten requests
        a second, so the cost stays small under load.
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
    kinds = tuple(_POSITIVES if loop.feedback is None else loop.feedback)
    service = Service(loop, limits, audit, Options(kinds, exclude_seen, watched))
    verifiers: tuple[Verifier, ...] = tuple(one for one in (keys, tokens) if one is not None)
    access = Access(verifiers, RateLimiter(limits.rates), tenant)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        with loop:
            service.watch.begin()
            points = asyncio.create_task(service.history.run())
            yield
            points.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await points
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
    direct: dict[tuple[str, str], Callable[[Scope], Awaitable[Response]]] = {}
    for route in ROUTES:
        endpoint = getattr(service, route.does)
        gate = [] if route.scope is None else [Depends(_gate(access, route.scope))]
        if route.body is not None and route.scope is not None:
            call = _with_body(endpoint, route.body, access, route.scope)
            direct[route.method, route.path] = call
            endpoint, gate = _of_request(call, endpoint), []
        app.add_api_route(
            route.path,
            endpoint,
            methods=[route.method],
            status_code=route.status,
            dependencies=gate,
            response_model=route.answer,
            responses=_PROBLEMS,
            openapi_extra=route.described(),
            operation_id=route.does,
        )
    app.add_api_route(
        "/openapi.json",
        _described(app),
        methods=["GET"],
        openapi_extra={"security": []},
        operation_id="openapi",
    )
    # They hold no data: the page asks the routes above, with a key.
    for path, page in dashboard_pages(secured=bool(verifiers)).items():
        app.add_api_route(path, page, methods=["GET"], openapi_extra={"security": []})
    app.add_middleware(
        Edge,
        access=access,
        watcher=service.watch.metrics,
        max_body=limits.max_body,
        direct=direct,
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    return app


def _gate(access: Access, scope: str) -> Callable[..., Any]:
    async def check(request: Request) -> None:
        access.allow(request.scope[PRINCIPAL], scope)

    return check


def _with_body(
    answer: Callable[..., Any], schema: type[BaseModel], access: Access, needed: str
) -> Callable[[Scope], Awaitable[Response]]:
    """Return what checks the scope of a key, then the body, and answers.

    FastAPI would do the same with dependencies. That takes longer than all the rest.
    """

    async def call(scope: Scope) -> Response:
        access.allow(scope[PRINCIPAL], needed)
        if not _is_json(scope):
            raise Problem("unsupported-media-type", "Send application/json.")
        try:
            body = schema.model_validate_json(scope[BODY])
        except ValidationError as error:
            raise Problem("invalid", _SEE_SCHEMA, errors=faults_of(error.errors())) from None
        response: Response = await answer(body)
        return response

    return call


def _is_json(scope: Scope) -> bool:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return bool(kind.partition(b";")[0].strip().lower() == b"application/json")


def _of_request(
    call: Callable[[Scope], Awaitable[Response]], answer: Callable[..., Any]
) -> Callable[..., Any]:
    """Return the endpoint for FastAPI, with the name and the words of the method behind it."""

    async def endpoint(request: Request) -> Response:
        return await call(request.scope)

    endpoint.__doc__, endpoint.__name__ = answer.__doc__, answer.__name__
    return endpoint


def _described(app: "FastAPI") -> Callable[..., Any]:
    """Return the route of the OpenAPI document."""

    async def openapi() -> Response:
        """Return this document."""
        document = app.openapi()
        parts = document.setdefault("components", {})
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        bodies: list[Any] = [(one.body, "validation") for one in ROUTES if one.body is not None]
        _, own = models_json_schema(bodies, ref_template=_REFERENCE)
        parts.setdefault("schemas", {}).update(own["$defs"])
        return JSONResponse(document)

    return openapi


async def _invalid(request: Request, error: Any) -> Response:
    return Problem("invalid", _SEE_SCHEMA, errors=faults_of(error.errors())).response()


async def _of_framework(request: Request, error: Any) -> Response:
    detail = "/openapi.json has all routes." if error.status_code == 404 else ""
    return problem_of_status(error.status_code, detail).response()
