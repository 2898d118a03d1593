"""IncrementalMFRecommender: the effect of each parameter."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import log_loss, mean_squared_error, roc_auc_score, root_mean_squared_error
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import Callback, EarlyStopping

from sklearn_recft import FineTuning, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions

DAY = 86_400
SOLVERS = ["sgd", "adam"]
N_TRAIN = 4000


def make(**params):
    """Make a model with small batches, since Adam needs enough steps on small logs."""
    small = {"n_factors": 8, "max_epochs": 50, "random_state": 0}
    if params.get("solver") == "adam":
        small |= {"learning_rate": 0.02}
    return IncrementalMFRecommender(**small | params)


@pytest.fixture(scope="module")
def log():
    """Make ratings in time order, with noise of 0.3 and true spread of 1.2."""
    return make_interactions(60, 50, 5000, n_factors=2, noise=0.3, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def clicks():
    return make_interactions(
        60, 50, 5000, n_factors=2, noise=0.3, feedback="click", random_state=0, return_X_y=True
    )


# --------------------------------------------------------------------------- losses


@pytest.mark.parametrize("solver", SOLVERS)
def test_squared_error(solver, log):
    X, y = log
    model = make(solver=solver).fit(X[:N_TRAIN], y[:N_TRAIN])
    y_pred = model.predict(X[N_TRAIN:])
    assert 0.3 < root_mean_squared_error(y[N_TRAIN:], y_pred) < 0.4
    assert y_pred.min() >= y[:N_TRAIN].min()
    assert y_pred.max() <= y[:N_TRAIN].max()


def test_scale_and_shift_of_ratings_do_not_matter(log):
    X, y = log
    y_pred = make().fit(X, y).predict(X)
    stretched = make().fit(X, 40 * y - 7).predict(X)
    assert_allclose(stretched, 40 * y_pred - 7, atol=0.4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_log_loss(solver, clicks):
    X, y = clicks
    model = make(solver=solver, loss="log_loss").fit(X[:N_TRAIN], y[:N_TRAIN])
    y_pred = model.predict(X[N_TRAIN:])
    assert ((y_pred > 0) & (y_pred < 1)).all()
    base = np.full(len(y_pred), y[:N_TRAIN].mean())
    assert log_loss(y[N_TRAIN:], y_pred) < 0.7 * log_loss(y[N_TRAIN:], base)
    assert abs(y_pred.mean() - y[N_TRAIN:].mean()) < 0.05


@pytest.mark.parametrize("method", ["fit", "partial_fit", "partial_fit_predict"])
def test_log_loss_needs_y_from_0_to_1(method, clicks):
    X, y = clicks
    model = make(loss="log_loss")
    if method != "fit":
        model.fit(X, y)
    with pytest.raises(ValueError, match="y: 2 of 5 rows lie outside 0 to 1"):
        getattr(model, method)(X[:5], [0, 1, 1.5, -0.5, 0.3])


@pytest.mark.parametrize("solver", SOLVERS)
def test_bpr_ranks_positives_first(solver, clicks):
    X, y = clicks
    model = make(solver=solver, loss="bpr").fit(X[:N_TRAIN], y[:N_TRAIN])
    popular = make(n_factors=1, loss="bpr", max_epochs=1, learning_rate=1e-6)
    popular.fit(X[:N_TRAIN], y[:N_TRAIN])
    mine, theirs = (roc_auc_score(y[N_TRAIN:], m.predict(X[N_TRAIN:])) for m in (model, popular))
    assert mine > theirs + 0.05


@pytest.mark.parametrize("solver", SOLVERS)
def test_bpr_ignores_rows_without_a_positive(solver, clicks):
    X, y = clicks
    model = make(solver=solver, loss="bpr").fit(X, y)
    y_pred = model.predict(X)
    with pytest.raises(ValueError, match="no row is positive"):
        make(solver=solver, loss="bpr").fit(X, -y)
    user, unmet = 7, model.recommend([7], n_recommendations=1)[0][0, 0]
    model.partial_fit([[user, unmet, 2e9]], [0.0])
    assert_array_equal(model.predict(X), y_pred)
    assert unmet not in model.recommend([user], n_recommendations=1)[0]  # but it has been met
    model.partial_fit([[user, unmet, 2e9]], [1.0])
    assert (model.predict(X) != y_pred).any()


# ----------------------------------------------------------------------- parameters


def test_bad_parameters_raise(log):
    for bad in ({"n_factors": 0}, {"loss": "hinge"}, {"solver": "als"}, {"half_life": 0},
                {"replay_size": -1}, {"learning_rate": 0.0}, {"max_epochs": 0}, {"reg": -1.0},
                {"net_params": []}):  # fmt: skip
        with pytest.raises(InvalidParameterError, match=f"'{next(iter(bad))}' parameter"):
            make(**bad).fit(*log)


@pytest.mark.parametrize("solver", SOLVERS)
def test_half_life_adapts_to_preference_drift(solver):
    data = make_interactions(30, 20, 6000, n_factors=2, noise=0.3, drift="abrupt", random_state=0)
    X, y = data.data, data.target
    errors = [
        root_mean_squared_error(
            y[5000:], make(solver=solver, half_life=h).fit(X[:5000], y[:5000]).predict(X[5000:])
        )
        for h in (None, 20)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_half_life_decays_popularity_with_bpr():
    # Item 1 was everybody's of old, item 2 is of late.
    X = [[user, 1, 0] for user in range(30)] + [[user, 2, 100 * DAY] for user in range(20)]
    firsts = []
    for half_life in (None, 10):
        model = make(loss="bpr", half_life=half_life, max_epochs=1, learning_rate=1e-6).fit(X)
        firsts.append(model.recommend([999], n_recommendations=1)[0].item())
        model.partial_fit([[user, 3, 300 * DAY] for user in range(8)])
        firsts.append(model.recommend([999], n_recommendations=1)[0].item())
    assert firsts == [1, 1, 2, 3]


def test_half_life_needs_timestamps(log):
    X, y = log
    with pytest.raises(ValueError, match="half_life needs the column `timestamp`"):
        make(half_life=3).fit(X[:, :2], y)


@pytest.mark.parametrize("solver", SOLVERS)
def test_context_is_learned_on_any_scale(solver, log):
    X, y = log
    rng = np.random.default_rng(0)
    mood = rng.choice([-1.0, 1.0], len(X))
    noise = rng.normal(size=len(X))
    huge, tiny, constant = 1e12 + 1e9 * noise, 1e-9 * rng.normal(size=len(X)), np.full(len(X), 7e5)
    wild = np.column_stack([X, huge, mood, tiny, constant])
    model = make(solver=solver).fit(wild[:N_TRAIN], (y + 2 * mood)[:N_TRAIN])
    up, down = wild[N_TRAIN:].copy(), wild[N_TRAIN:].copy()
    up[:, 4], down[:, 4] = 1, -1
    # Predictions stay in the range of y, so the effect shows whole where both ends are inside.
    assert_allclose(np.median(model.predict(up) - model.predict(down)), 4, atol=0.4)
    model.partial_fit(wild[N_TRAIN:] * [1, 1, 1, 50, 1, 50, 1], y[N_TRAIN:])
    assert np.isfinite(model.predict(wild)).all()
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X, y)


def test_replay_is_bounded_and_reduces_forgetting(log):
    X, y = log
    sizes, errors = {}, {}
    for replay_size in (0, 200, 2000):
        model = make(replay_size=replay_size).fit(X[:N_TRAIN], y[:N_TRAIN])
        sizes[replay_size] = len(pickle.dumps(model))
        for start in range(N_TRAIN, 5000, 100):  # everybody says the contrary
            rows = slice(start, start + 100)
            model.partial_fit(X[rows], 6 - y[rows])
        errors[replay_size] = root_mean_squared_error(y[:N_TRAIN], model.predict(X[:N_TRAIN]))
    assert errors[2000] < errors[200] < errors[0] - 0.02
    assert 200 * 16 <= sizes[200] - sizes[0] <= 200 * 16 + 1000  # two codes, target and weight
    assert 2000 * 16 <= sizes[2000] - sizes[0] <= 2000 * 16 + 1000


def test_threads(log):
    X, y = log
    one = make().fit(X[:N_TRAIN], y[:N_TRAIN]).predict(X[N_TRAIN:])
    assert_array_equal(make(n_jobs=1).fit(X[:N_TRAIN], y[:N_TRAIN]).predict(X[N_TRAIN:]), one)
    for n_jobs in (2, -1):
        model = make(n_jobs=n_jobs).fit(X[:N_TRAIN], y[:N_TRAIN])
        assert root_mean_squared_error(y[N_TRAIN:], model.predict(X[N_TRAIN:])) < 0.4
        users = np.arange(600) % 60
        items, scores = model.recommend(users, n_recommendations=5)
        alone = copy.copy(model).set_params(n_jobs=None).recommend(users, n_recommendations=5)
        assert_array_equal(items, alone[0])
        assert_allclose(scores, alone[1], rtol=1e-6)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "bpr", "softmax"])
def test_verbose_shows_progress(loss, log, clicks, capsys):
    X, y = clicks if loss == "log_loss" else log
    quiet = make(loss=loss, max_epochs=2).fit(X, y)
    assert capsys.readouterr() == ("", "")
    shown = make(loss=loss, max_epochs=2, verbose=1).fit(X, y)
    said = capsys.readouterr().err
    assert "2/2" in said
    assert ("loss=" in said) == (loss != "softmax")
    assert_array_equal(shown.predict(X), quiet.predict(X))


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_the_loss_shown_is_that_of_the_rows(loss, log, clicks, capsys):
    X, y = clicks if loss == "log_loss" else log
    weight = np.random.default_rng(0).uniform(1, 2, len(y))
    model = make(loss=loss, max_epochs=2, verbose=1).fit(X, y, sample_weight=weight)
    shown = re.findall(r"loss=([\d.]+)", capsys.readouterr().err)
    metric = log_loss if loss == "log_loss" else mean_squared_error
    # Predictions of ratings are clipped to their range, the scores in the loss are not.
    assert float(shown[-1]) == pytest.approx(
        metric(y, model.predict(X), sample_weight=weight), rel=0.01
    )


# ------------------------------------------------------------------------- the net


class Witness(Callback):
    """Record training and validation rows, and the optimizer at the start of training."""

    def initialize(self):
        self.train, self.valid, self.began = [], [], []
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.began.append(copy.deepcopy(net.optimizer_.state_dict()["state"]))

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.train.append([target[0] for _, target in _rows(dataset_train)])
        self.valid.append([target[0] for _, target in _rows(dataset_valid)])


def _rows(dataset):
    return [] if dataset is None else [dataset[row] for row in range(len(dataset))]


def test_net_params_pass_through(log):
    X, y = log
    params = {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1, "batch_size": 500}
    model = make(solver="adam", max_epochs=3, net_params=params).fit(X, y)
    assert isinstance(model.net_.optimizer_, torch.optim.AdamW)
    assert [len(epoch["batches"]) for epoch in model.net_.history] == [10, 10, 10]
    assert params.keys() == model.net_params.keys()
    assert (model.predict(X) != make(solver="adam", max_epochs=3).fit(X, y).predict(X)).any()
    assert not hasattr(clone(model).set_params(solver="sgd", net_params=None).fit(X, y), "net_")


def test_the_sgd_solver_rejects_options_of_adam(log):
    for name, value in (("training", FineTuning()), ("net_params", {"batch_size": 8})):
        with pytest.raises(ValueError, match=f"^{name}: only solver='adam'"):
            make(solver="sgd", **{name: value}).fit(*log)
        make(solver="adam", max_epochs=1, **{name: value}).fit(*log)


def test_training_options_have_an_effect(log):
    X, y = log
    plain = make(solver="adam", max_epochs=2).fit(X, y).predict(X)
    for options in ({"clip": 0.01}, {"warmup": 0.5}, {"weight_decay": 0.5}, {"accumulate": 2},
                    {"schedule": "linear"}, {"patience": 1}):  # fmt: skip
        training = FineTuning(**options)
        model = make(solver="adam", max_epochs=2, training=training).fit(X, y)
        assert (model.predict(X) != plain).any(), options
    models = [make(solver="adam", max_epochs=1, training=FineTuning(update_rate=rate)).fit(X, y)
              for rate in (0.0, 1.0)]  # fmt: skip
    factors = [model.module_.arrays()["item_factors"].copy() for model in models]
    for model in models:
        model.partial_fit(X[:50], y[:50])
    moved = [(m.module_.arrays()["item_factors"] != f).any()
             for m, f in zip(models, factors, strict=True)]  # fmt: skip
    assert moved == [False, True]


def test_early_stopping_validates_on_the_newest_tenth(log):
    X, y = log
    shuffled = np.random.default_rng(0).permutation(1000)
    witness = Witness()
    stop = EarlyStopping(patience=2, threshold=0.9, threshold_mode="abs")
    model = make(solver="adam", net_params={"callbacks": [("witness", witness), ("stop", stop)]})
    model.fit(X[shuffled], y[shuffled])
    seen = dict(model.net_.callbacks_)["witness"]
    assert_allclose(seen.valid[0], y[900:1000], rtol=1e-6)
    assert_allclose(np.sort(seen.train[0]), np.sort(y[:900]), rtol=1e-6)
    assert len(model.net_.history) < 30
    without = make(solver="adam", max_epochs=1, net_params={"callbacks": [("witness", Witness())]})
    assert dict(without.fit(X, y).net_.callbacks_)["witness"].valid == [[]]


def test_adam_keeps_its_moments_as_tables_grow(log):
    X, y = log
    model = make(solver="adam", max_epochs=2, net_params={"callbacks": [("witness", Witness())]})
    model.fit(X, y)
    before = copy.deepcopy(model.net_.optimizer_.state_dict()["state"])
    model.partial_fit(X[:50] + np.array([40, 30, 10**9]), y[:50])
    begun = dict(model.net_.callbacks_)["witness"].began[-1]
    sizes = {key: len(state["exp_avg"]) for key, state in begun.items()}
    assert model.n_users_ in sizes.values()
    assert model.n_users_ > 60
    for key, state in before.items():
        assert begun[key]["step"] == state["step"] > 0
        for moment in ("exp_avg", "exp_avg_sq"):
            old, new = state[moment], begun[key][moment]
            assert torch.equal(new[: len(old)], old)
            assert not new[len(old) :].any()


# ------------------------------------------------------------------ learning further


@pytest.mark.parametrize("params", [
    {}, {"replay_size": 50}, {"loss": "log_loss"}, {"loss": "bpr"},
    {"solver": "adam", "replay_size": 50},
], ids=str)  # fmt: skip
def test_partial_fit_predict_equals_a_loop_over_rows(params, log):
    n = 100 if "solver" in params else 250
    X, y = log[0][:n], log[1][:n]
    if "loss" in params:
        y = (y > 3).astype(float)
    whole, model = make(**params), make(**params)
    at_once = whole.partial_fit_predict(X, y)
    one_by_one, y_pred = [], [np.nan]
    for row in range(len(X)):
        if row:
            y_pred.append(model.predict(X[[row]])[0])
        one_by_one.append(model.partial_fit_predict(X[[row]], y[[row]])[0])
    assert_array_equal(one_by_one, at_once)
    assert_array_equal(whole.predict(X), model.predict(X))
    # An id met before, by a row that counts, is predicted just as `predict` would.
    counts = y > 0 if model.loss == "bpr" else np.ones(n, bool)
    before = [X[:row][counts[:row]] for row in range(n)]
    met = [all(X[row, side] in before[row][:, side] for side in (0, 1)) for row in range(n)]
    assert sum(met) > n / 5
    assert_allclose(np.array(y_pred)[met], at_once[met], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_new_user_is_learned_from_a_few_events(solver, log):
    X, y = log
    data = make_interactions(60, 50, 5000, n_factors=2, noise=0.3, random_state=0)
    model = make(solver=solver).fit(X, y)
    truth = 3 + data.item_factors @ data.user_factors[5]
    items = model.item_ids_
    met, rest = items[:12], items[12:]
    twin = np.column_stack([np.full(12, 777), met, np.full(12, 2e9)])
    queried = np.column_stack([np.full(len(rest), 777), rest, np.full(len(rest), 2e9)])
    before = root_mean_squared_error(truth[rest], model.predict(queried))
    model.partial_fit(twin, truth[met])
    after = root_mean_squared_error(truth[rest], model.predict(queried))
    assert after < 0.6 * before


@pytest.mark.parametrize("params", [
    {"replay_size": 100}, {"loss": "bpr", "replay_size": 100},
    {"solver": "adam", "replay_size": 100, "max_epochs": 2},
], ids=str)  # fmt: skip
def test_memory_grows_with_the_number_of_ids_only(params, log):
    """With ten rows of new users per call, only tables with one row per id grow."""
    X, y = log[0][:1000], np.clip(log[1][:1000] / 6, 0.1, 1)
    model = make(**params).fit(X, y)
    n_calls = 200 if "solver" in params else 600
    sizes = []
    for call in range(n_calls):
        rows = X[call % 90 * 10 :][:10].copy()
        rows[:, 0] = 1000 + call * 10 + np.arange(10)
        model.partial_fit(rows, y[:10])
        if call in (n_calls // 2, n_calls - 1):
            sizes.append((model.n_users_, len(pickle.dumps(model))))
    (users, size), (more_users, more) = sizes
    # Factors, bias and count (Adam: twice more), id, and one item met, which is two codes;
    # a table may have room for half as many rows again.
    tables = 4 * (model.n_factors + 1) * (3 if "solver" in params else 1) + 4
    assert more - size < 1.6 * (more_users - users) * (tables + 8 + 8)
    grown = pickle.loads(pickle.dumps(model)).partial_fit(X, y)
    assert grown.n_users_ == model.n_users_


def test_score_reads_the_loss_of_fit():
    X, y = make_interactions(20, 15, 200, random_state=0, return_X_y=True)
    model = IncrementalMFRecommender(n_factors=2, max_epochs=2, random_state=0).fit(X, y)
    expected = model.score(X, y)
    assert model.set_params(loss="bpr").score(X, y) == expected
