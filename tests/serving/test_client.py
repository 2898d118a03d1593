"""The client against a server on this machine: the verbs of an estimator, over HTTP."""

import re
import threading
import time

import numpy as np
import pandas as pd
import pytest

from sklearn_recft import PopularityRecommender
from sklearn_recft.serving import (
    Client,
    FeedbackStore,
    Loop,
    ServiceError,
    create_app,
    make_server,
)
from sklearn_recft.serving._app import ROUTES
from tests.serving.http_service import ROWS, Keys


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run a server in a thread; yield its address and its keys."""
    folder = tmp_path_factory.mktemp("served")
    keys = Keys(folder)
    store = FeedbackStore(f"sqlite:///{folder}/feedback.db", durable=False)
    loop = Loop(PopularityRecommender().fit(ROWS), store, folder / "models", feedback=None)
    app = create_app(loop, keys=keys.file)
    server = make_server(app, port=0, secured=True)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", keys
    server.should_exit = True
    thread.join()
    store.close()


@pytest.fixture
def client(served):
    with Client(served[0], served[1].all) as client:
        yield client


def test_lists_change_with_what_is_sent(client):
    before = client.recommend(["eve", "fay"], n_recommendations=2)
    assert before.items.shape == before.scores.shape == (2, 2)
    assert before.items[0, 0] == "tea"
    X = pd.DataFrame({"user_id": [f"u{n}" for n in range(9)], "item_id": "jam"})
    seq = client.partial_fit(X, kind="purchase", list_ids=[before.list_ids[0]] + [None] * 8)
    assert seq == client.seq
    after = client.recommend(["eve"], n_recommendations=2, min_seq=client.seq)
    assert after.items[0, 0] == "jam"
    assert after.seq >= seq
    assert client.export("u0")["events"][0]["list_id"] == before.list_ids[0]


def test_options_and_predictions(client):
    found = client.recommend(
        pd.DataFrame({"user_id": ["ann"], "timestamp": [5.0]}),
        candidates=np.array(["tea", "rye"], dtype=object), exclude=["rye"], exclude_seen=False,
    )  # fmt: skip
    assert found.items[0].tolist() == ["tea"] + [None] * 9
    assert np.isneginf(found.scores[0, 1:]).all()
    assert client.predict([["ann", "tea"]]).shape == (1,)
    assert client.is_ready()
    lists = client.recommend(["zoe"], remember=False)
    assert client.recommend(["zoe"]).items.tolist() == lists.items.tolist()
    history = client.quality()
    assert len(history["time"]) == len(history["figures"]["n_lists"])
    shown = [one["list_id"] for one in client.export("zoe")["lists"]]
    assert lists.list_ids[0] not in shown
    assert client.save() in [one["name"] for one in client.models()]


def test_every_route_has_a_call():
    import httpx

    asked = set()

    def handler(request):
        asked.add((request.method, request.url.path))
        answer = {"seq": 1, "lists": [], "model": "m", "models": [], "predictions": []}
        return httpx.Response(200, json={**answer, "receipt": {}})

    with Client("http://127.0.0.1:1") as client:
        client._http = httpx.Client(base_url="http://x", transport=httpx.MockTransport(handler))
        client.partial_fit([["ann", "tea"]])
        client.add_items([{"item_id": "oat", "text": "oat milk"}])
        client.recommend(["ann"])
        client.predict([["ann", "tea"]])
        client.forget(["ann"])
        for call in (client.models, client.save, client.rollback, client.quality, client.is_ready):
            call()
        client.export("ann")
        client.promote("m")
    left = {(one.method, re.sub(r"\{.+?\}", "[^/]+", one.path)) for one in ROUTES}
    left = {(m, p) for m, p in left if not any(m == n and re.fullmatch(p, q) for n, q in asked)}
    assert left == {("GET", "/metrics"), ("GET", "/health/live")}  # for Prometheus and probes


def test_problems_are_errors(served, client):
    with pytest.raises(ServiceError, match="422 invalid: kind: 1 of 1 events") as caught:
        client.partial_fit([["ann", "tea"]], kind="sneeze")
    assert (caught.value.kind, caught.value.status) == ("invalid", 422)
    with pytest.raises(ServiceError, match="events/0/mood: Extra inputs are not permitted"):
        client.send([{"user_id": 1, "item_id": 2, "kind": "click", "mood": 1}])
    for key, kind in ((None, "unauthorized"), (served[1].by_scope["metrics:read"], "forbidden")):
        with Client(served[0], key) as other, pytest.raises(ServiceError, match=kind):
            other.models()


def test_a_busy_service_is_asked_again(client, monkeypatch):
    answers = [(429, {"retry-after": "3"}), (503, {}), (200, {})]
    pauses = []
    monkeypatch.setattr("sklearn_recft.serving._client.time.sleep", pauses.append)
    import httpx

    def handler(request):
        status, headers = answers.pop(0)
        return httpx.Response(status, headers=headers, json={"models": []})

    client._http = httpx.Client(base_url="http://x", transport=httpx.MockTransport(handler))
    assert client.models() == []
    assert pauses == [3.0, 1.0]


def test_other_machines_need_keys():
    for host in ("0.0.0.0", "::", "10.0.0.7", "example.org"):
        with pytest.raises(ValueError, match="give keys"):
            make_server(None, host=host)
        assert make_server(None, host=host, secured=True).config.host == host
    for host in ("127.0.0.1", "::1", "localhost"):
        assert make_server(None, host=host).config.access_log is False
