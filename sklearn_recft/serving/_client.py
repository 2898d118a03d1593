"""Client of a service: its calls mirror the verbs of an estimator."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from sklearn_recft.events import Interactions
from sklearn_recft.interactions import check_interactions, check_queries
from sklearn_recft.loop import check_stored_items

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

# Answers after which the same request is sent again: too many requests, and not ready.
_AGAIN = (429, 503)
_LONGEST_PAUSE = 10.0


class ServiceError(Exception):
    """A problem that a service has answered with.

    Attributes
    ----------
    kind : str
        Such as "unauthorized", "forbidden", "invalid", "behind" or "queue-full".
    status : int
        Status of HTTP.
    detail : str
    """

    def __init__(self, kind: str, status: int, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.kind = kind
        self.status = status
        self.detail = detail


class _Lists(NamedTuple):
    items: np.ndarray
    scores: np.ndarray
    list_ids: list[str]
    model: str
    seq: int


class ServedLists(_Lists):
    """Lists of a service: a tuple of the first five attributes.

    Attributes
    ----------
    items, scores : ndarray of shape (n_queries, n_recommendations)
        Padded with None and -inf. A score that is not finite is NaN.
    list_ids : list of str
        Name of each list, for the events that follow from it.
    model : str
    seq : int
        The last event that the model had learned.
    because : list of list of dict, or None
        With ``because=True``, an entry for each list: by item, a list of (past item, contribution),
        largest contribution first.
    """

    because: list[dict[int | str, list[tuple[int | str, float]]]] | None = None


class Client:
    """Client of a service that `create_app` or ``recft serve`` runs.

    Events get ids here, so a request that is sent again after an error is stored once.

    Parameters
    ----------
    url : str
        Such as "http://127.0.0.1:8000".
    key : str, default=None
        Key or token; None if the service runs without keys.
    timeout : float, default=40.0
        Seconds for one request.
    retries : int, default=2
        How often a request is sent again if the service is busy.

    Attributes
    ----------
    seq : int
        Number of the newest event that this client has sent. Pass it as ``min_seq`` to get lists
        that know it.

    Raises
    ------
    ImportError
        Without httpx (extra ``[serve]``).
    ServiceError
        By all methods, if the service refuses a request. A service that cannot be reached raises an
        error of httpx, such as ``httpx.ConnectError``.

    Examples
    --------
    >>> from sklearn_recft.serving import Client
    >>> client = Client("http://127.0.0.1:8000")
    >>> seq = client.partial_fit([["ann", "tea"]], kind="purchase")  # doctest: +SKIP
    >>> lists = client.recommend(["ann"], min_seq=seq)  # doctest: +SKIP
    >>> client.close()
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 40.0, retries: int = 2
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise ImportError("Client needs httpx: pip install 'sklearn-recft[serve]'") from error
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.seq = 0
        self._retries = retries
        self._http: httpx.Client = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ------------------------------------------------------------------------------ events, lists

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        kind: str = "click",
        list_ids: Sequence[str | None] | None = None,
    ) -> int:
        """Send events; they are stored when this returns, and learned soon after it.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            As in `partial_fit` of an estimator.
        y : array-like of shape (n,), default=None
            Feedback in place of that of the kind.
        kind : str, default="click"
            Kind of all events.
        list_ids : sequence of str or None of length n, default=None
            The list that each item was seen in.

        Returns
        -------
        seq : int
            Number of the last event.
        """
        rows = check_interactions(X, y)
        events = _dicts(rows)
        for row, event in enumerate(events):
            event |= {"kind": kind, "event_id": uuid.uuid4().hex}
            if rows.feedback is not None:
                event["value"] = float(rows.feedback[row])
            if list_ids is not None and list_ids[row] is not None:
                event["list_id"] = list_ids[row]
        return self.send(events)["seq"]

    def send(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Send events as dicts: ``user_id``, ``item_id``, ``kind``, and what is optional.

        Returns
        -------
        answer : dict
            ``seq``, ``accepted`` and ``duplicates``.
        """
        named = [{"event_id": uuid.uuid4().hex, **event} for event in events]
        answer = self._call("POST", "/v1/events", {"events": named})
        self.seq = max(self.seq, answer["seq"])
        return answer

    def add_items(self, items: Any) -> int:
        """Send new items; they can be recommended without an event, soon after this returns.

        Parameters
        ----------
        items : data frame, or iterable of dict
            ``item_id``, and the ``text``, ``embedding`` or features that the model reads.

        Returns
        -------
        seq : int
            Number of the last item; pass it as ``min_seq``.
        """
        rows = [{"item_id": one.item_id, **one.context} for one in check_stored_items(items)]
        answer = self._call("PUT", "/v1/items", {"items": [_described(row) for row in rows]})
        self.seq = max(self.seq, answer["seq"])
        return answer["seq"]

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude: Any = None,
        exclude_seen: bool | None = None,
        history: Any = None,
        min_seq: int | None = None,
        because: bool = False,
        remember: bool = True,
    ) -> ServedLists:
        """Return the best items for each query.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
        n_recommendations : int, default=10
        candidates, exclude : array-like of item ids, default=None
        exclude_seen : bool, default=None
            None takes what the service does by default.
        history : table of events, default=None
            Events in place of those that the model has of these users.
        min_seq : int, default=None
            Wait until this event is learned.
        because : bool, default=False
            Return the past items behind each score, too; the model must have `explain`.
        remember : bool, default=True
            False: nobody is shown the lists, so the service neither keeps nor counts them.

        Returns
        -------
        lists : ServedLists
            ``items`` and ``scores`` as in `recommend` of an estimator, ``list_ids``, ``model``,
            ``seq`` and the attribute ``because``.
        """
        queries = check_queries(X)
        body: dict[str, Any] = {"n": n_recommendations}
        if queries.timestamps is None and queries.query is None and not queries.context_names:
            body["users"] = _plain(queries.user_ids)
        else:
            body["queries"] = _dicts(queries)
        for name, ids in (("candidates", candidates), ("exclude", exclude)):
            if ids is not None:
                body[name] = _plain(ids)
        if history is not None:
            body["history"] = _dicts(check_interactions(history))
        given = {"exclude_seen": exclude_seen, "min_seq": min_seq}
        body |= {name: value for name, value in given.items() if value is not None}
        if because:
            body["because"] = True
        if not remember:
            body["remember"] = False
        answer = self._call("POST", "/v1/recommend", body)
        shape = len(answer["lists"]), n_recommendations
        items, scores = np.full(shape, None, object), np.full(shape, -np.inf)
        for row, one in enumerate(answer["lists"]):
            for place, found in enumerate(one["items"]):
                items[row, place], scores[row, place] = found["item_id"], _number(found["score"])
        list_ids = [one["list_id"] for one in answer["lists"]]
        lists = ServedLists(items, scores, list_ids, answer["model"], answer["seq"])
        if because:
            lists.because = [_reasons(one["items"]) for one in answer["lists"]]
        return lists

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions of rows, shape (n,); NaN for one that is not finite.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        """
        rows = {"rows": _dicts(check_interactions(X))}
        found = self._call("POST", "/v1/predict", rows)["predictions"]
        return np.array([_number(one) for one in found])

    # ------------------------------------------------------------------------------ users, models

    def forget(self, user_ids: Sequence[int | str]) -> list[dict[str, Any]]:
        """Erase users, and return the receipt of each."""
        return [self._call("DELETE", _user(one))["receipt"] for one in user_ids]

    def export(self, user_id: int | str) -> dict[str, Any]:
        """Return everything that is stored of a user."""
        path, _, query = _user(user_id).partition("?")
        return self._call("GET", f"{path}/export?{query}")

    def models(self) -> list[dict[str, Any]]:
        """Return the saved models, oldest first."""
        return self._call("GET", "/v1/models")["models"]

    def save(self) -> str:
        """Save the model as it is now, and return its name."""
        return self._call("POST", "/v1/models")["model"]

    def promote(self, name: str, *, release: bool = False) -> str:
        """Go back to a saved model, and learn the events after it again.

        Parameters
        ----------
        name : str
            One of `models`.
        release : bool, default=False
            Learn also the events that an earlier `rollback` refused.

        Returns
        -------
        name : str
            Name of the model in use.
        """
        query = "?release=true" if release else ""
        return self._call("POST", f"/v1/models/{quote(name, safe='')}/promote{query}")["model"]

    def rollback(self) -> str:
        """Go back to the saved model before, without the events after it."""
        return self._call("POST", "/v1/models/rollback")["model"]

    def quality(self) -> dict[str, Any]:
        """Return the figures of the model and of the loop over time.

        Returns
        -------
        history : dict
            ``time`` and ``model``, lists of length n with the newest point last; ``figures``, a
            dict of such lists by name, with None where a figure is not defined; ``metric``, what
            the loss is; ``reasons``, whether the model gives any.
        """
        return self._call("GET", "/v1/quality")

    def is_ready(self) -> bool:
        """Whether the service stores and learns events now."""
        return self._http.get("/health/ready").status_code == 200

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        for left in range(self._retries, -1, -1):
            answer = self._http.request(method, path, json=body)
            if answer.status_code not in _AGAIN or not left:
                break
            time.sleep(min(float(answer.headers.get("retry-after", 1)), _LONGEST_PAUSE))
        if answer.is_success:
            return answer.json()
        raise _error(answer)


def _error(answer: httpx.Response) -> ServiceError:
    if answer.headers.get("content-type") != "application/problem+json":
        return ServiceError(
            "unknown", answer.status_code, "No `recft serve` has answered: check the URL."
        )
    found = answer.json()
    faults = "".join(
        f" {one['at']}: {one.get('message', one['fault'])}." for one in found.get("errors", ())
    )
    return ServiceError(found["type"].rpartition(":")[2], found["status"], found["detail"] + faults)


def _user(user_id: int | str) -> str:
    kind = "string" if isinstance(user_id, str) else "integer"
    return f"/v1/users/{quote(str(user_id), safe='')}?id_type={kind}"


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """Return an item as the service takes it: features apart."""
    own = ("item_id", "text", "embedding")
    found: dict[str, Any] = {name: value for name, value in row.items() if name in own}
    features = {name: value for name, value in row.items() if name not in own}
    return {**found, "features": features} if features else found


def _number(value: Any) -> Any:
    """Return a value of an answer: null is a number that is not finite."""
    return np.nan if value is None else value


def _reasons(
    listed: Sequence[Mapping[str, Any]],
) -> dict[int | str, list[tuple[int | str, float]]]:
    """Return the reasons of one list by item."""
    return {
        one["item_id"]: [
            (past["item_id"], _number(past["contribution"])) for past in one.get("because") or ()
        ]
        for one in listed
    }


def _plain(ids: Any) -> list[Any]:
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)


def _dicts(rows: Interactions) -> list[dict[str, Any]]:
    """Return events or queries as the service takes them."""
    columns: dict[str, list[Any]] = {"user_id": _plain(rows.user_ids)}
    if rows.item_ids is not None:
        columns["item_id"] = _plain(rows.item_ids)
    if rows.timestamps is not None:
        columns["timestamp"] = rows.timestamps.tolist()
    if rows.query is not None:
        columns["query"] = rows.query.tolist()
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if rows.context_names:
        for one, context in zip(found, rows.context.tolist(), strict=True):
            one["context"] = dict(zip(rows.context_names, context, strict=True))
    return found
