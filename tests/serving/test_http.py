"""HTTP: what is stored and learned, what is refused, and what is written to logs."""

import asyncio
import contextlib
import json
import logging
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

from sklearn_recft import EASERecommender, PopularityRecommender
from sklearn_recft.serving import (
    AuditLog,
    Client,
    Limits,
    QueueFullError,
    StoreError,
    create_app,
)
from sklearn_recft.serving._keys import SCOPES
from sklearn_recft.tags import RecommenderTags
from tests.serving.http_service import LOCAL, ROWS, Keys, header, running, secured


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with secured(tmp_path_factory.mktemp("service")) as (client, keys):
        client.headers.update(header(keys.all))
        yield client, keys


@pytest.fixture
def client(service):
    return service[0]


def click(item, user="dan", **more):
    return {"user_id": user, "item_id": item, "kind": "click", **more}


def lists(client, users, **more):
    answer = client.post("/v1/recommend", json={"users": users, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["lists"]


def items(one):
    return [place["item_id"] for place in one["items"]]


def problem(answer, status, kind):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:recft:problem:{kind}"
    return answer.json()


# ------------------------------------------------------------------------------ the loop, by HTTP


def test_a_click_changes_the_next_list(tmp_path):
    with running(tmp_path) as client:
        (before,) = lists(client, ["eve"], n=3)
        assert items(before)[0] == "tea"
        events = [click("jam", f"u{n}", list_id=before["list_id"]) for n in range(5)]
        answer = client.post("/v1/events", json={"events": events})
        assert (answer.status_code, answer.json()) == (
            202, {"seq": 5, "accepted": 5, "duplicates": 0},
        )  # fmt: skip
        (after,) = lists(client, ["eve"], n=3, min_seq=5)
        assert items(after)[0] == "jam"
        assert after["list_id"] != before["list_id"]
        found = client.get("/v1/users/u1/export").json()
        assert found["events"][0]["item_id"] == "jam"


def test_an_event_that_is_sent_again_counts_once(client):
    event = click("tea", event_id="once")
    first = client.post("/v1/events", json={"events": [event]}).json()
    again = client.post("/v1/events", json={"events": [event, event]}).json()
    assert again == {"seq": first["seq"], "accepted": 0, "duplicates": 2}


def test_the_same_on_postgres(postgres, tmp_path):
    with running(tmp_path, url=postgres) as client:
        send, shown = [click("jam", f"pg{n}", event_id=f"pg{n}") for n in range(6)], []
        for n in range(6):  # one by one: the last ones are learned by the thread that stores them
            seq = client.post("/v1/events", json={"events": [send[n]]}).json()["seq"]
            (one,) = lists(client, [f"pg{n}"], n=3, min_seq=seq, exclude_seen=False)
            shown.append(items(one)[0])
        assert (shown[0], shown[-1]) == ("tea", "jam")
        again = client.post("/v1/events", json={"events": send}).json()
        assert again == {"seq": seq, "accepted": 0, "duplicates": 6}
        saved = client.post("/v1/models").json()["model"]
        assert saved in [one["name"] for one in client.get("/v1/models").json()["models"]]
        assert client.delete("/v1/users/pg5").json()["receipt"]
        assert client.get("/v1/users/pg5/export").json()["events"] == []
        assert client.get("/v1/users/pg4/export").json()["events"][0]["item_id"] == "jam"
        assert client.get("/health/ready").status_code == 200


def test_options_of_lists(client):
    (one,) = lists(client, ["ann"], n=2)
    assert "tea" not in items(one)
    assert "tea" in items(lists(client, ["ann"], n=2, exclude_seen=False)[0])
    assert items(lists(client, ["zoe"], candidates=["jam", "rye"], exclude=["rye"])[0]) == ["jam"]
    found = client.post("/v1/recommend", json={"queries": [{"user_id": "zoe"}], "n": 1}).json()
    assert [one["user_id"] for one in found["lists"]] == ["zoe"]
    assert len(items(lists(client, ["zoe"], n=900)[0])) == len({row[1] for row in ROWS})


def test_requests_that_come_together_get_their_own_answers(client):
    users = [[f"x{n}", f"y{n}"] for n in range(12)]
    found = {}

    def ask(n):
        found[n] = lists(client, users[n], n=1 + n % 2)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(12):
        assert [one["user_id"] for one in found[n]] == users[n]
        assert {len(one["items"]) for one in found[n]} == {1 + n % 2}
    assert len({one["list_id"] for own in found.values() for one in own}) == 24


def test_reasons_of_a_list(tmp_path):
    with running(tmp_path, EASERecommender(reg=1.0).fit(ROWS)) as client:
        found = lists(client, ["ann"], n=2, because=True)[0]["items"]
        assert [one["because"][0]["item_id"] for one in found] == ["tea", "tea"]
        both = lists(client, ["bob", "zoe"], n=3, because=True)
        assert [one["because"] for one in both[1]["items"]] == [[], [], []]
        own = Client("http://127.0.0.1")
        own._http = client
        (reasons,) = own.recommend(["ann"], n_recommendations=2, because=True).because
        assert [past[0][0] for past in reasons.values()] == ["tea", "tea"]
        assert own.recommend(["ann"], n_recommendations=2).because is None
        answer = client.post(
            "/v1/recommend",
            json={"queries": [{"user_id": "ann", "timestamp": 5}], "n": 2, "because": True},
        )
        problem(answer, 422, "invalid")  # the model was fitted without times


def test_a_model_without_reasons_says_so(client):
    answer = client.post("/v1/recommend", json={"users": ["ann"], "because": True})
    assert "no reasons" in problem(answer, 422, "invalid")["detail"]


def test_predictions(client):
    rows = [{"user_id": "ann", "item_id": item} for item in ("tea", "unknown")]
    found = client.post("/v1/predict", json={"rows": rows}).json()["predictions"]
    assert (
        found
        == PopularityRecommender().fit(ROWS).predict([["ann", "tea"], ["ann", "unknown"]]).tolist()
    )


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("events", {}), ("events", {"events": []}), ("events", []), ("events", "x"),
        ("events", {"events": [{"user_id": "a"}]}), ("events", {"events": [click(True)]}),
        ("events", {"events": [click("")]}), ("events", {"events": [click("a" * 257)]}),
        ("events", {"events": [click(2**63)]}), ("events", {"events": [click("a", kind="x")]}),
        ("events", {"events": [click("a", timestamp=-1)]}),
        ("events", {"events": [click("a", role="admin")]}),
        ("events", {"events": [click("\0", event_id="\0")]}),
        ("recommend", {"n": 3}), ("recommend", {"users": ["a"], "queries": [{"user_id": "a"}]}),
        ("recommend", {"users": ["a"], "n": 0}), ("recommend", {"users": ["a"], "n": "3"}),
        ("recommend", {"users": ["a"], "candidates": ["no such item"]}),
        ("recommend", {"users": ["a"], "history": [{"user_id": "a", "item_id": "tea"}]}),
        ("predict", {"rows": [{"user_id": "a", "item_id": "b", "context": {"x": [1]}}]}),
    ],
)  # fmt: skip
def test_bodies_that_are_not_valid(client, path, body):
    problem(client.post(f"/v1/{path}", json=body), 422, "invalid")


def test_an_invalid_body_is_not_repeated_in_the_answer(client):
    answer = client.post("/v1/events", json={"events": [click("a", secret="hidden")]})
    assert problem(answer, 422, "invalid")["errors"] == [
        {
            "at": "events/0/secret",
            "fault": "extra_forbidden",
            "message": "Extra inputs are not permitted",
        }
    ]
    form = {"content-type": "application/json"}
    for content in (b"{", b"\xff", b'{"events": NaN}', b""):
        problem(client.post("/v1/events", content=content, headers=form), 422, "invalid")
    answer = client.post("/v1/events", content=b'{"events": []}')
    problem(answer, 415, "unsupported-media-type")


def test_requests_that_are_too_large(tmp_path):
    limits = Limits(max_body=2000, max_events=3, max_users=2, max_items=5)
    with running(tmp_path, limits=limits) as client:
        problem(client.post("/v1/events", content=b"x" * 2001), 413, "too-large")
        chunks = client.post("/v1/events", content=(b"x" * 500 for _ in range(5)))
        problem(chunks, 413, "too-large")
        for path, body in (
            ("events", {"events": [click("a")] * 4}), ("recommend", {"users": ["a", "b", "c"]}),
            ("recommend", {"users": ["a"], "n": 6}),
            ("recommend", {"users": ["a"], "exclude": list("abcdef")}),
            ("predict", {"rows": [{"user_id": 1, "item_id": 2}] * 4}),
        ):  # fmt: skip
            problem(client.post(f"/v1/{path}", json=body), 413, "too-large")
        assert client.get("/health/ready").status_code == 200


def test_unknown_paths_and_methods(client):
    problem(client.get("/v1/secrets"), 404, "not-found")
    problem(client.get("/v1/events"), 405, "method-not-allowed")
    problem(client.get("/v1/users/17/export"), 422, "invalid")
    problem(client.get("/v1/users/ann/export?id_type=integer"), 422, "invalid")
    assert client.get("/v1/users/17/export?id_type=integer").json()["events"] == []


def test_rates(tmp_path):
    with secured(tmp_path, limits=Limits(rates={"recommend:read": "2/hour"})) as (client, keys):
        for key in (keys.all, keys.by_scope["recommend:read"]):
            for _ in range(2):
                answer = client.post("/v1/recommend", json={"users": ["a"]}, headers=header(key))
                assert answer.status_code == 200
            answer = client.post("/v1/recommend", json={"users": ["a"]}, headers=header(key))
            problem(answer, 429, "too-many-requests")
            assert 3000 < int(answer.headers["retry-after"]) <= 3600


# ------------------------------------------------------------------------------ models, users


def test_models_are_saved_promoted_and_rolled_back(tmp_path):
    with secured(tmp_path) as (client, keys):
        client.headers.update(header(keys.all))
        first = client.post("/v1/models").json()["model"]
        seq = client.post(
            "/v1/events", json={"events": [click("jam", f"u{n}") for n in range(9)]}
        ).json()["seq"]
        assert items(lists(client, ["eve"], n=1, min_seq=seq)[0]) == ["jam"]
        client.post("/v1/models/rollback").raise_for_status()
        assert items(lists(client, ["eve"], n=1)[0]) == ["tea"]
        names = [one["name"] for one in client.get("/v1/models").json()["models"]]
        assert first in names
        client.post(f"/v1/models/{first}/promote").raise_for_status()
        assert items(lists(client, ["eve"], n=1)[0]) == ["tea"]
        client.post(f"/v1/models/{first}/promote?release=true").raise_for_status()
        assert items(lists(client, ["eve"], n=1)[0]) == ["jam"]
        problem(client.post(f"/v1/models/{first}/promote?release=x"), 422, "invalid")
        problem(client.post("/v1/models/none/promote"), 404, "not-found")
        rows = (tmp_path / "audit.jsonl").read_text().splitlines()
        assert [json.loads(row)["what"] for row in rows] == [
            "save", "rollback", "promote", "promote",
        ]  # fmt: skip


def test_numbers_that_are_not_finite_are_null(tmp_path, monkeypatch):
    of_items = PopularityRecommender.recommend

    def infinite(self, *args, **options):
        items, scores = of_items(self, *args, **options)
        return items, np.where(np.arange(scores.shape[1]) % 2, -np.inf, np.inf) + 0 * scores

    monkeypatch.setattr(PopularityRecommender, "recommend", infinite)
    monkeypatch.setattr(PopularityRecommender, "predict", lambda self, X: np.full(len(X), np.nan))
    with running(tmp_path) as client:
        found = lists(client, ["eve"], n=3)[0]
        assert [one["score"] for one in found["items"]] == [None] * 3
        rows = [{"user_id": "eve", "item_id": item} for item in ("tea", "rye")]
        answer = client.post("/v1/predict", json={"rows": rows})
        assert (answer.status_code, answer.json()["predictions"]) == (200, [None, None])
        own = Client("http://127.0.0.1")
        own._http = client
        assert np.isnan(own.recommend(["eve"], n_recommendations=3).scores).all()
        assert np.isnan(own.predict([["eve", "tea"]])).all()


def test_a_user_is_erased(tmp_path):
    with running(tmp_path) as client:
        sent = {"events": [click("rye", "ann"), click("rye", 17), click("rye", "17")]}
        seq = client.post("/v1/events", json=sent).json()["seq"]
        assert items(lists(client, ["ann"], n=3, min_seq=seq)[0]) == ["jam"]
        receipt = client.delete("/v1/users/ann").json()["receipt"]
        assert receipt
        assert client.get("/v1/users/ann/export").json()["events"] == []
        assert len(items(lists(client, ["ann"], n=3)[0])) == 3
        client.delete("/v1/users/17?id_type=integer").raise_for_status()
        kept = client.get("/v1/users/17/export?id_type=string").json()["events"]
        assert [one["user_id"] for one in kept] == ["17"]


class StubLoop:
    """A loop of which every call fails in one way."""

    def __init__(self, error):
        self.error = error
        self.seq = 0
        self.feedback = {"click": 1.0, "purchase": 3.0, "skip": 0.0}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def health(self):
        return SimpleNamespace(running=False, error="down")

    def watch(self, monitor, *, probability):
        return False

    @contextlib.contextmanager
    def reading(self):
        yield SimpleNamespace(
            model=SimpleNamespace(
                __recommender_tags__=RecommenderTags, n_users_=0, n_items_=0,
                predict=lambda X: np.zeros(len(X)),
            )
        )  # fmt: skip

    @contextlib.contextmanager
    def reading_now(self):
        yield None  # the other thread answers

    def __getattr__(self, name):
        def fail(*args, **options):
            raise self.error

        return fail


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QueueFullError("full"), 429, "queue-full"), (StoreError("disk full"), 503, "not-ready"),
        (OSError("disk full"), 503, "not-ready"),
        (ValueError("wrong"), 422, "invalid"), (RuntimeError("secret-in-message"), 500, "internal"),
    ],
)  # fmt: skip
def test_errors_of_the_loop_are_problems(error, status, kind, caplog):
    caplog.set_level(logging.DEBUG)
    with TestClient(create_app(StubLoop(error)), **LOCAL) as client:
        for path, body in (
            ("events", {"events": [click("a")]}), ("recommend", {"users": ["a"]}),
            ("predict", {"rows": [{"user_id": 1, "item_id": 2}]}),
        ):  # fmt: skip
            found = client.post(f"/v1/{path}", json=body)
            problem(found, status, kind)
            assert ("retry-after" in found.headers) == (status in (429, 503))
            assert "secret-in-message" not in found.text + caplog.text
        problem(client.get("/health/ready"), 503, "not-ready")
    assert ("error RuntimeError at test_http.py" in caplog.text) == (status == 500)


def test_requests_that_wait_are_bounded():
    loop, entered, released, statuses = StubLoop(None), threading.Event(), threading.Event(), []

    def recommend(*args, **options):
        entered.set()
        released.wait(20)
        raise ValueError("enough")

    loop.recommend = recommend
    with TestClient(create_app(loop, limits=Limits(max_waiting=2)), **LOCAL) as client:

        def ask():
            statuses.append(client.post("/v1/recommend", json={"users": ["a"]}).status_code)
            if len(statuses) == 5:
                released.set()

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
        threads[0].start()
        assert entered.wait(20)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert statuses == [429] * 5 + [422] * 3


def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_recft.serving._edge._PATIENCE", 0.01)
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"20")]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/events", "headers": headers,
        "query_string": b"", "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(create_app(StubLoop(None))(scope, receive, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize(("parts", "status"), [(3, 202), (2, 422)])
def test_a_body_that_arrives_in_parts(tmp_path, parts, status):
    body, sent = b'{"events": [{"user_id": "a", "item_id": "i0", "kind": "click"}]}', []
    pieces = [body[:9], body[9:20], body[20:]][:parts]

    async def receive():
        await asyncio.sleep(0)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/events", "query_string": b"",
        "headers": [*headers, (b"content-length", b"%d" % len(body))],
        "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    with running(tmp_path) as client:
        client.portal.call(client.app, scope, receive, send)
    assert sent[0]["status"] == status


# ------------------------------------------------------------------------------ who is answered


def test_without_keys_only_this_machine_is_answered(tmp_path):
    with running(tmp_path) as client:
        assert lists(client, ["a"])
        other = TestClient(client.app, base_url="http://127.0.0.1", client=("10.0.0.7", 4000))
        problem(other.get("/health/live"), 403, "forbidden")
        page = TestClient(client.app, base_url="http://rebound.test", client=("127.0.0.1", 4000))
        problem(page.get("/health/live"), 403, "forbidden")
        for origin in ("https://elsewhere.test", "null", "file://"):
            answer = client.post("/v1/models/rollback", headers={"Origin": origin})
            problem(answer, 403, "forbidden")
        own = client.get("/health/live", headers={"Origin": "http://127.0.0.1"})
        assert own.status_code == 200


def test_keys_that_are_refused(service):
    client, keys = service
    for key in (
        "",
        "recft_",
        keys.all[:-1] + ("B" if keys.all[-1] == "A" else "A"),
        keys.revoked,
        "a" * 65_536,
    ):
        answer = client.get("/v1/models", headers=header(key))
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in (f"/v1/models?key={keys.all}", f"/v1/models?authorization=Bearer%20{keys.all}"):
        problem(client.get(path, headers={"Authorization": ""}), 401, "unauthorized")
    problem(client.get("/v1/models", headers=header(keys.foreign)), 403, "forbidden")


def test_a_body_of_nobody_is_not_read(service):
    client, _ = service

    def chunks():
        raise AssertionError("the body was read")
        yield b""

    stranger = TestClient(client.app, **LOCAL)
    answer = stranger.post("/v1/events", content=b"{}" * 100_000)
    problem(answer, 401, "unauthorized")


def operations(app):
    """Yield method, path and scope (None for everybody) of each route of the OpenAPI document."""
    for path, methods in TestClient(app, **LOCAL).get("/openapi.json").json()["paths"].items():
        for method, about in methods.items():
            scopes = [scope for one in about["security"] for scope in one["key"]]
            assert len(scopes) == bool(about["security"])
            yield method.upper(), path, scopes[0] if scopes else None


def test_every_route_needs_its_scope(tmp_path):
    keys = Keys(tmp_path)
    app = create_app(StubLoop(StoreError("no")), keys=keys.file)
    found = list(operations(app))
    assert {scope for _, _, scope in found} == {*SCOPES, None}
    public = {path for _, path, scope in found if scope is None}
    pages = {"/dashboard", "/dashboard.css", "/dashboard.js"}
    assert public == {"/health/live", "/health/ready", "/openapi.json", *pages}
    assert len(found) >= 18
    with TestClient(app, **LOCAL) as client:
        for method, path, needed in found:
            url = path.replace("{user_id}", "ann").replace("{name}", "m")
            body = {"json": {}} if method in ("POST", "PUT") else {}

            def status(key, url=url, method=method, body=body):
                return client.request(method, url, headers=header(key), **body).status_code

            for scope, key in keys.by_scope.items():
                allowed = needed in (None, scope)
                assert (status(key) == 403) != allowed, (method, path, scope)
                assert status(key) != 401
            assert (status(None) == 401) == (needed is not None)
            assert (status(keys.foreign) == 403) == (needed is not None)
            assert status(keys.revoked) == 401


def test_a_route_without_a_scope_is_caught(tmp_path):
    app = create_app(StubLoop(None))
    app.add_api_route("/new", lambda: None, methods=["GET"])
    with pytest.raises(KeyError, match="security"):
        list(operations(app))


# ------------------------------------------------------------------------------ what is written


def test_logs_hold_no_secrets_and_no_ids(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with secured(tmp_path) as (client, keys):
        for key in (keys.all, keys.foreign, keys.revoked, keys.all + "x"):
            for method, path, body in (
                ("POST", "/v1/events", {"events": [click("item-77", "user-77")]}),
                ("POST", "/v1/events", {"events": [click("item-77", "user-77", a="user-77")]}),
                ("POST", "/v1/recommend", {"users": ["user-77"], "candidates": ["item-88"]}),
                ("POST", "/v1/recommend", {"users": ["user-77"]}),
                ("GET", "/v1/users/user-77/export", None), ("GET", "/user-77", None),
                ("GET", "/metrics", None), ("POST", "/v1/models", None),
            ):  # fmt: skip
                answer = client.request(method, path, json=body, headers=header(key))
                assert answer.status_code < 500
                if path == "/metrics":
                    assert "user-77" not in answer.text
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name != "httpx2")
    assert "/v1/users/{user_id}/export" in ours
    for secret in ("user-77", "item-77", "item-88", keys.all.split("_", 2)[2]):
        assert secret not in ours
    audit = (tmp_path / "audit.jsonl").read_text()
    assert [json.loads(line)["what"] for line in audit.splitlines()] == ["save"]
    assert "user-77" not in audit
    assert AuditLog(tmp_path / "audit.jsonl").verify() == 1
