"""Guard: verdicts on clean and damaged updates, validity of its tests, and its errors."""

import copy

import numpy as np
import pytest

from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import Guard

FIT, UPDATE = 6000, 7000


@pytest.fixture(scope="module")
def log():
    return make_interactions(80, 60, 12_000, noise=0.5, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def model(log):
    X, y = log
    return IncrementalMFRecommender(8, max_epochs=15, random_state=0).fit(X[:FIT], y[:FIT])


def judge(model, X, y, labels, piece=500, guard=None):
    rows = slice(FIT, UPDATE)
    after = copy.deepcopy(model).partial_fit(X[rows], labels)
    guard = (guard or Guard()).begin(model, after, X[rows], labels)
    for start in range(UPDATE, UPDATE + 3000, piece):
        if guard.update(X[start : start + piece], y[start : start + piece]) != "watch":
            break
    return guard


@pytest.mark.parametrize(
    ("damage", "verdict"),
    [
        (lambda y: y, "promote"),
        (lambda y: 6 - y, "roll back"),
        (lambda y: np.full(len(y), 5.0), "roll back"),
        (lambda y: np.random.default_rng(0).permutation(y), "roll back"),
    ],
    ids=["clean", "reversed", "all five", "shuffled"],
)
def test_verdicts(damage, verdict, model, log):
    X, y = log
    before = model.module_.state()
    guard = judge(model, X, y, damage(y[FIT:UPDATE]))
    assert guard.verdict_ == verdict, guard.reason_
    assert 0 < guard.n_events_ <= 3000
    for name, table in model.module_.state().items():  # the guard has changed nothing
        np.testing.assert_array_equal(table, before[name])


def test_the_verdict_does_not_depend_on_how_often_one_looks(model, log):
    X, y = log
    wrong = 6 - y[FIT:UPDATE]
    one, other = (judge(model, X, y, wrong, piece) for piece in (3, 1000))
    assert (one.verdict_, one.n_events_) == (other.verdict_, other.n_events_)


def test_true_drift_is_not_taken_for_wrong_labels(model, log):
    X, y = log
    turned = y.copy()
    turned[FIT:] = 6 - y[FIT:]  # everybody's tastes turn at the update, and stay so
    assert judge(model, X, turned, turned[FIT:UPDATE]).verdict_ == "promote"


@pytest.mark.parametrize("shift", [0.0, -0.02])
def test_error_rate_of_looking_after_every_event(shift):
    """Two models that differ by noise, or a better one after: rolled back in at most alpha."""
    n, rolled_back = 100, 0
    rng = np.random.default_rng(0)
    X = np.column_stack([np.arange(20), np.arange(20)])
    for _ in range(n):
        losses = iter(rng.exponential(1, (200, 2)))

        def loss(name, X, y, losses=losses):
            if name == "before":
                loss.now = [next(losses) for _ in range(len(X))]
            place = int(name == "after")
            return [float(pair[place]) + shift * place for pair in loss.now]

        loss.now = np.ones((20, 2))
        guard = Guard(loss=loss, alpha=0.05)
        guard._losses("before", X, None)
        guard.begin("before", "after", X, None)
        for _ in range(6):
            guard.update(X, None)
        rolled_back += guard.verdict_ == "roll back"
    assert rolled_back <= 0.05 * n


def test_unusual_inputs_are_named(model, log):
    X, y = log
    guard, rows = Guard(), slice(FIT, UPDATE)
    for _ in range(5):
        judge(model, X, y, y[rows], guard=guard)
        assert guard.verdict_ == "promote"
        assert guard.warnings_ == []
    odd = X[rows].copy()
    odd[:, 0] = 10**6
    guard.begin(model, copy.deepcopy(model), odd, y[rows] + 2)
    named = [warning.split(" is ")[0] for warning in guard.warnings_]
    assert named == ["label_mean", "user_share", "new_users"]


def test_a_callable_loss_and_its_errors(model, log):
    X, y = log
    guard = Guard(loss=lambda estimator, X, y: np.abs(estimator.predict(X) - y))
    assert judge(model, X, y, 6 - y[FIT:UPDATE], guard=guard).verdict_ == "roll back"
    assert np.isnan(guard.inputs_.agreement)
    bad = Guard(loss=lambda estimator, X, y: np.full(len(X), np.nan))
    with pytest.raises(ValueError, match="loss: 3 of 3 rows"):
        bad.begin(model, copy.deepcopy(model), X[:3], y[:3])
    with pytest.raises(ValueError, match="before and after are one object"):
        Guard().begin(model, model, X[:3], y[:3])
    with pytest.raises(ValueError, match="y is None, and loss='squared_error' needs feedback"):
        Guard().begin(model, copy.deepcopy(model), X[:3])
    with pytest.raises(ValueError, match="call begin with both models first"):
        Guard().update(X, y)
    for params in ({"loss": "hinge"}, {"alpha": 1}, {"tolerance": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(params))} must be"):
            Guard(**params)


def test_wrong_feedback_and_models_are_named(model, log):
    (X, y), before = log, copy.deepcopy(model)
    for params in ({"loss": []}, {"alpha": "a"}, {"tolerance": np.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(params))} must be"):
            Guard(**params)
    with pytest.raises(TypeError, match="before must be a fitted recommender"):
        Guard().begin(3, model, X[:50], y[:50])
    with pytest.raises(ValueError, match="y is None, and loss='squared_error' needs feedback"):
        Guard().begin(before, model, X[:50])
    with pytest.raises(ValueError, match="loss='log_loss' needs"):
        Guard(loss="log_loss").begin(before, model, X[:50], y[:50])
    with pytest.raises(ValueError, match="loss must return one number for each of the 50 rows"):
        Guard(loss=lambda estimator, X, y: 1.0).begin(before, model, X[:50])
    guard = Guard().begin(before, model, X[:50], y[:50])
    for wrong in (y[:3], np.full(50, "a"), None):
        with pytest.raises(ValueError, match=r"\by\b"):
            guard.update(X[:50], wrong)
    assert guard.n_events_ == 0


def test_labels_may_be_bool(model, log):
    (X, y), before = log, copy.deepcopy(model)
    guard = Guard(loss="log_loss").begin(before, model, X[:50], y[:50] > 3)
    assert guard.update(X[50:60], y[50:60] > 3) == "watch"
