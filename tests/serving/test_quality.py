"""Figures of a service equal those of the package's own metrics on the same rows."""

import asyncio
import copy
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from sklearn_recft import IncrementalMFClassifier
from sklearn_recft.metrics import (
    catalogue_coverage_at_k,
    expected_calibration_error,
    gini_index_at_k,
    ndcg_at_k,
)
from sklearn_recft.serving import FeedbackStore, Loop
from sklearn_recft.serving._quality import Quality
from sklearn_recft.serving._watch import Watch


def test_losses_equal_the_metrics_however_the_stream_is_cut():
    rng = np.random.default_rng(0)
    p, y = rng.random(3000), rng.integers(0, 2, 3000).astype(float)
    p[:3], y[:3] = (0, 1, 0.5), (1, 0, 1)
    for metric, probability in (("log_loss", True), ("rmse", False)):
        found = []
        for cuts in ([], [1, 2, 77, 1500], range(1, 3000)):
            quality = Quality(probability=probability)
            for a, b in zip(np.split(y, list(cuts)), np.split(p, list(cuts)), strict=True):
                quality.add_predictions(a, b)
            assert quality.metric == metric
            found.append(quality.summary([]))
        expected = log_loss(y, p) if probability else np.sqrt(np.mean((p - y) ** 2))
        gap = expected_calibration_error(y, p) if probability else abs(np.mean(p - y))
        for one in found:
            assert one["loss"] == pytest.approx(expected, abs=1e-9)
            assert one["calibration_gap"] == pytest.approx(gap, abs=1e-9)
            assert one["loss_recent"] == pytest.approx(found[0]["loss_recent"], rel=1e-9)


@pytest.mark.parametrize("labels", [(-1, 1), ("no", "yes")])
def test_the_log_loss_is_that_of_the_labels_of_the_model(labels, tmp_path):
    first, second = labels
    model = IncrementalMFClassifier(n_factors=2, random_state=0)
    model.fit([[1, 7], [2, 7], [2, 8], [1, 8]], [first, second, first, second])
    clicks = np.random.default_rng(0).integers(0, 2, 30)
    rows = [[int(n) % 2 + 1, 7 + n // 2 % 2] for n in range(30)]
    y = np.array([labels[click] for click in clicks])
    expected = log_loss(y, copy.deepcopy(model).partial_fit_predict_proba(rows, y))
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False)
    feedback = {"click": second, "skip": first}
    with Loop(model, store, tmp_path / "models", feedback=feedback) as loop:
        watch = Watch(loop, None, tuple(feedback), 1.0)
        watch.begin()
        done = loop.submit(
            {"user_id": u, "item_id": i, "kind": ("skip", "click")[c]}
            for (u, i), c in zip(rows, clicks.tolist(), strict=True)
        )
        assert loop.wait(done.seq[-1], 60)
    store.close()
    assert loop.health().rejected == 0
    assert watch.quality.summary([])["loss"] == pytest.approx(expected, abs=1e-9)


def test_drift_rises_when_the_loss_does():
    quality = Quality(probability=False)
    quality.add_predictions(np.zeros(500), np.ones(500))
    assert np.isnan(quality.summary([])["drift"])
    quality.add_predictions(np.zeros(4500), np.ones(4500))
    assert quality.summary([])["drift"] == pytest.approx(1)
    quality.add_predictions(np.zeros(500), np.full(500, 2.0))
    assert quality.summary([])["drift"] > 1.5


def test_lists_are_joined_with_what_was_taken_from_them():
    quality = Quality(probability=False, n_lists=3)
    for n, items in enumerate((["a", "b"], ["a", "b"], ["b", "c"], ["c", "d"])):
        quality.add_list(f"l{n}", items)
    for list_id, item in (("l0", "a"), ("l1", "b"), ("l1", "z"), ("l3", "d"), ("gone", "a")):
        quality.add_feedback(list_id, item)
    lists, taken = [["a", "b"], ["b", "c"], ["c", "d"]], [{"b"}, set(), {"d"}]
    found = quality.summary("abcdef")
    assert found["n_lists"] == 3
    assert found["hit_rate"] == pytest.approx(2 / 3)
    assert found["ndcg"] == pytest.approx(ndcg_at_k(taken, lists, k=2))
    assert found["coverage"] == catalogue_coverage_at_k("abcdef", lists, k=2)
    assert found["gini"] == gini_index_at_k("abcdef", lists, k=2)
    quality.add_unknown("users", np.array([True, False, True, False]))
    assert quality.summary([])["unknown_users"] == pytest.approx(0.5, abs=0.01)
    assert np.isnan(quality.summary([])["unknown_items"])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 5), (1.0, 20), (None, 2)])
def test_how_many_requests_are_watched(monkeypatch, share, expected):
    calls, clock = [], iter(np.arange(20) * 0.0098)  # seconds, just below two tenths
    times = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("sklearn_recft.serving._watch.time", times)

    class Reads:
        async def submit(self, call):
            calls.append(call)

    async def send():
        watch = Watch(SimpleNamespace(feedback={"click": 1.0}), Reads(), ("click",), share)
        for _ in range(20):
            await watch.before([])

    asyncio.run(send())
    assert len(calls) == expected
