"""IncrementalMFRecommender(drift="follow"): a slow and a fast copy, mixed."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import IncrementalMFClassifier, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions

N_FIT, TURN = 4000, 9000


def make(drift="follow", **params):
    small = {"n_factors": 8, "max_epochs": 20, "random_state": 0, "drift": drift}
    return IncrementalMFRecommender(**small | params)


@pytest.fixture(scope="module")
def turned():
    """Make a log whose users change all their tastes in the middle."""
    log = make_interactions(60, 50, 2 * TURN, drift="abrupt", noise=0.3, random_state=0)
    return log.data, log.target


@pytest.fixture(scope="module")
def streamed(turned):
    """Return models after the same stream, and what they predicted of it."""
    X, y = turned
    found = {}
    for drift in (None, "follow"):
        model = make(drift).fit(X[:N_FIT], y[:N_FIT])
        found[drift] = model, model.partial_fit_predict(X[N_FIT:], y[N_FIT:])
    return found


def excess(predictions, y, first, last):
    return np.mean((predictions - y[N_FIT:])[first - N_FIT : last - N_FIT] ** 2)


def test_it_follows_an_abrupt_turn_and_costs_nothing_before(turned, streamed):
    y = turned[1]
    plain, mixed = (streamed[drift][1] for drift in (None, "follow"))
    assert excess(mixed, y, TURN + 500, TURN + 5000) < 0.75 * excess(
        plain, y, TURN + 500, TURN + 5000
    )
    assert excess(mixed, y, N_FIT, TURN) < 1.005 * excess(plain, y, N_FIT, TURN)


def test_the_slow_copy_is_the_model_without_drift(streamed):
    slow, plain = (streamed[drift][0].module_.state() for drift in ("follow", None))
    for name, table in plain.items():
        assert_array_equal(slow[name], table)


def test_drift_attribute(turned, streamed):
    found = streamed["follow"][0].drift_
    assert found.fast_weight > 0.5
    assert found.n_blocks == len(found.losses) == (2 * TURN - N_FIT) // 32
    after = slice((TURN - N_FIT) // 32 + 1, (TURN - N_FIT) // 32 + 80)
    slow, fast = found.losses[after].mean(axis=0)
    assert fast < 0.9 * slow
    with pytest.raises(AttributeError, match="drift_: set drift='follow'"):
        _ = streamed[None][0].drift_


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_the_stream_does_not_depend_on_how_it_is_cut(loss, turned):
    X, y = turned
    y = y if loss == "squared_error" else (y > 3).astype(float)
    whole = make(loss=loss).fit(X[:1000], y[:1000])
    cut = copy.deepcopy(whole)
    expected = whole.partial_fit_predict(X[1000:1300], y[1000:1300])
    parts = [cut.partial_fit_predict(X[a:b], y[a:b]) for a, b in ((1000, 1007), (1007, 1300))]
    assert_array_equal(np.concatenate(parts), expected)
    assert cut.drift_.fast_weight == whole.drift_.fast_weight
    assert_array_equal(cut.drift_.losses, whole.drift_.losses)
    assert_allclose(cut.predict(X[:50]), whole.predict(X[:50]), rtol=1e-6)


def test_all_methods_read_the_mixture(turned, streamed):
    X, _ = turned
    model = streamed["follow"][0]
    users, items = (np.searchsorted(ids, X[-40:, side]) for side, ids in
                    ((0, np.sort(model.user_ids_)), (1, np.sort(model.item_ids_))))  # fmt: skip
    users, items = np.argsort(model.user_ids_)[users], np.argsort(model.item_ids_)[items]
    v, slow, fast = model.drift_.fast_weight, model.module_, model._model.fast
    context = np.empty((40, 0))
    by_hand = (1 - v) * slow.score(users, items, context) + v * fast.score(users, items, context)
    assert_allclose(model._model.scorer.score(users, items, context), by_hand, rtol=1e-6)
    assert model.user_factors_.shape == (model.n_users_, 16)
    sums = model.intercept_ + model.user_biases_[users] + model.item_biases_[items]
    sums += (model.user_factors_[users] * model.item_factors_[items]).sum(axis=1)
    assert_allclose(sums, by_hand, rtol=1e-5)
    found, scores = model.recommend(X[-1:, 0], n_recommendations=3, exclude_seen=False)
    pairs = np.c_[np.repeat(X[-1, 0], 3), found[0], np.repeat(X[-1, 2], 3)]
    assert_allclose(model.predict(pairs), scores[0], rtol=1e-5)


def test_adapt_solves_in_both_copies_and_keeps_the_weight(turned):
    X, y = turned
    model = make().fit(X[:N_FIT], y[:N_FIT])
    before, weight = model._model.fast.state(), model.drift_.fast_weight
    model.adapt([[10**6, X[0, 1], 0], [10**6, X[1, 1], 0]], [5.0, 1.0])
    new = -1
    assert model.drift_.fast_weight == weight
    assert len(model._model.fast.array("user_bias")) == len(before["user_bias"]) + 1
    assert_array_equal(model._model.fast.array("item_factors"), before["item_factors"])
    # The copies are still equal after a fit, and solve the same problem.
    slow, fast = (table.rows(0, np.array([new])) for table in model._model.copies)
    assert_array_equal(slow[0], fast[0])


def test_chunks_learn_the_mixture_from_rows_that_were_not_learned(turned):
    X, y = turned
    model, rows = make().fit(X[:N_FIT], y[:N_FIT]), slice(N_FIT, N_FIT + 320)
    users, items = (
        np.array([{code: n for n, code in enumerate(ids.tolist())}.get(x, -1) for x in column])
        for ids, column in ((model.user_ids_, X[rows, 0]), (model.item_ids_, X[rows, 1]))
    )
    score = [table.score(users, items, np.empty((320, 0))) for table in model._model.copies]
    variance = y[:N_FIT].var()
    model.partial_fit(X[rows], y[rows])
    found = model.drift_.losses
    for column, values in zip(found.T, score, strict=True):
        errors = (values - y[rows]) ** 2 / variance
        assert_allclose(column, errors.reshape(-1, 32).mean(axis=1), rtol=0.05)


def test_a_failed_update_changes_nothing(turned):
    X, y = turned
    model = make().fit(X[:N_FIT], y[:N_FIT])
    model.partial_fit_predict(X[N_FIT : N_FIT + 100], y[N_FIT : N_FIT + 100])
    before = model._model.fast.state(), model._model.mixture.state()
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="diverged"):
        model.partial_fit_predict(X[5000:5040], np.full(40, 1e28))
    after = model._model.fast.state(), model._model.mixture.state()
    for old, new in zip(before, after, strict=True):
        for name, values in old.items():
            assert_array_equal(new[name], values)


@pytest.mark.parametrize("params", [{"loss": "bpr"}, {"loss": "softmax"}, {"solver": "adam"}])
def test_other_losses_and_solvers_are_refused(params, turned):
    X, y = turned
    with pytest.raises(ValueError, match="drift='follow' needs"):
        make(**params).fit(X[:50], y[:50])


def test_classifier_follows(turned):
    X, y = turned
    labels = y > 3
    scores = {}
    for drift in (None, "follow"):
        model = IncrementalMFClassifier(n_factors=8, max_epochs=20, random_state=0, drift=drift)
        model.fit(X[:N_FIT], labels[:N_FIT])
        p = model.partial_fit_predict_proba(X[N_FIT:], labels[N_FIT:])
        p = np.clip(p, 1e-6, 1 - 1e-6)
        losses = -np.log(np.where(labels[N_FIT:], p, 1 - p))
        scores[drift] = losses[TURN - N_FIT + 500 : TURN - N_FIT + 5000].mean()
    assert scores["follow"] < 0.95 * scores[None]
