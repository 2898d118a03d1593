"""Bodies made from the OpenAPI document itself, valid and not: no answer is an error of ours."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import prequential_score
from tests.serving.http_service import ROWS, running

# A service answers requests with ids of any type.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_recft.vocabulary.IdTypeWarning")

# Values at the edges of what JSON can hold.
ODD = st.sampled_from(
    [None, True, 0, -1, 2**63, 2**80, 1e308, "", "\0", "é\u2028", "a" * 300, [], {}, [[]], "17"]
)
TEXTS = st.text(max_size=8)


def mostly(values):
    """Return a strategy in which one value of 16 is an odd one."""
    return st.integers(0, 15).flatmap(lambda n: ODD if n == 7 else values)


def values_of(schema, document):
    """Return a strategy of values that mostly follow a JSON schema."""
    if "$ref" in schema:
        return values_of(document["components"]["schemas"][schema["$ref"].split("/")[-1]], document)
    if "anyOf" in schema:
        return st.one_of([values_of(one, document) for one in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "object":
        return objects_of(schema, document)
    if kind == "array":
        smallest = schema.get("minItems", 0)
        return st.lists(values_of(schema["items"], document), min_size=smallest, max_size=3)
    plain = {
        "string": mostly(st.sampled_from(["click", "purchase"])),
        "integer": st.integers(-3, 12),
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return plain[kind]


def objects_of(schema, document):
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    if not properties:
        return st.dictionaries(TEXTS, st.floats(-9, 9) | TEXTS, max_size=3)
    parts = {name: mostly(values_of(one, document)) for name, one in properties.items()}
    return st.fixed_dictionaries(
        {name: parts[name] for name in properties if name in required},
        optional={name: parts[name] for name in properties if name not in required},
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    feedback = {"click": 1.0, "purchase": 3.0}
    model = PopularityRecommender().fit(ROWS, [1.0] * len(ROWS))
    options = {"loop_options": {"feedback": feedback}}
    with running(tmp_path_factory.mktemp("fuzz"), model, **options) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "path"),
    [("post", "/v1/events"), ("post", "/v1/recommend"), ("post", "/v1/predict"),
     ("put", "/v1/items")],
)  # fmt: skip
def test_no_body_is_an_error_of_the_service(client, method, path, monkeypatch):
    monkeypatch.setattr("sklearn_recft.serving._service._PATIENCE", 0.0)
    document = client.get("/openapi.json").json()
    about = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    statuses = set()

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(values_of(about, document))
    def check(body):
        content = json.dumps(body).encode()
        answer = client.request(
            method, path, content=content, headers={"content-type": "application/json"}
        )
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 202, 409, 413, 422), (answer.text, body)
        json.loads(answer.text)

    check()
    assert 422 in statuses
    assert statuses & {200, 202} or path == "/v1/items"  # this model knows items by events
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("chunk", "loop_options"),
    [(50, {"learn": "chunk", "chunk_size": 50, "chunk_seconds": 60.0}), (1, {"learn": "event"})],
)
def test_the_loss_equals_that_of_a_prequential_evaluation(tmp_path, chunk, loop_options):
    X, y = make_interactions(30, 20, 700, random_state=0, return_X_y=True)
    model = IncrementalMFRecommender(n_factors=4, max_epochs=2, random_state=0)
    expected = prequential_score(
        model, X, y, warm_up=0.5, chunk_size=chunk, scoring=["rmse"], learn="partial_fit"
    )
    start = len(X) - expected.n_rows
    order = np.argsort(X[:, 2], kind="stable")
    X, y = X[order], y[order]
    fitted = model.fit(X[:start], y[:start])
    feedback = {"rating": 3.0}
    options = {**loop_options, "feedback": feedback}
    with running(tmp_path, fitted, watched=1.0, loop_options=options) as client:
        for step in range(start, len(X), 50):
            rows = zip(X[step : step + 50].tolist(), y[step : step + 50].tolist(), strict=True)
            events = [
                {"user_id": u, "item_id": i, "timestamp": t, "kind": "rating", "value": value}
                for (u, i, t), value in rows
            ]
            seq = client.post("/v1/events", json={"events": events}).json()["seq"]
            client.post("/v1/recommend", json={"users": [0], "min_seq": seq}).raise_for_status()
        page = client.get("/metrics").text
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
             for line in page.splitlines() if not line.startswith("#")}  # fmt: skip
    assert found['recft_prequential_loss{window="all"}'] == pytest.approx(
        expected.metrics["rmse"], abs=1e-9
    )
    assert found["recft_seq"] == expected.n_rows
    assert found["recft_seq_lag"] == 0
    assert found['recft_events_total{kind="rating",outcome="accepted"}'] == expected.n_rows
    assert found['recft_unknown_share{of="users"}'] < 0.1
    assert found["recft_shown_lists"] == -(-expected.n_rows // 50)
    assert found["recft_ready"] == 1


def test_the_number_of_series_does_not_grow_with_ids(client):
    def n_series():
        return client.get("/metrics").text.count("\nrecft_")

    def send(n):
        events = [{"user_id": n, "item_id": f"i{n}", "kind": "click"}]
        client.post("/v1/events", json={"events": events}).raise_for_status()
        client.get(f"/v1/users/u{n}/export").raise_for_status()
        client.get(f"/nothing/{n}")

    send(0)
    n_series()
    before = n_series()
    for n in range(1, 30):
        send(n)
    assert n_series() == before
