"""The contract of every recommender: each check takes an unfitted estimator and raises."""

import copy
import pickle
import random

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier

from sklearn_recft import (
    BiasRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.datasets import make_checkerboard, make_interactions

N_USERS, N_ITEMS = 30, 40
# Every pair of known and some unknown ids, at one moment after all events.
PAIRS = np.column_stack([np.repeat(np.arange(45), 50), np.tile(np.arange(50), 45)])
PAIRS = np.column_stack([PAIRS, np.full(len(PAIRS), 1_700_000_000)])


def make_log(n_rows=400, seed=0):
    """Users, items and times, with feedback from 0 to 1 that every loss can learn."""
    X, y = make_interactions(
        N_USERS, N_ITEMS, n_rows, popularity=0.5, random_state=seed, return_X_y=True
    )
    return X, np.clip(np.round(y), 0, 5) / 5


def make_news(n_rows=60):
    """Later rows, of ids old and new."""
    X, y = make_log(n_rows, seed=1)
    return X + np.array([10, 8, 366 * 86_400]), y


def fitted(estimator):
    return clone(estimator).fit(*make_log())


def answers(model):
    """All that a model says of pairs and to users, known or not, in one vector."""
    lists = [
        np.column_stack(model.recommend(np.arange(45), n_recommendations=n, exclude_seen=exclude))
        for n, exclude in ((30, False), (3, True))
    ]
    return np.concatenate([model.predict(PAIRS), *map(np.ravel, lists)])


def as_table(*columns):
    """Table of objects whose cells may be tuples."""
    columns = [list(column) for column in columns]
    table = np.empty((len(columns[0]), len(columns)), object)
    for j, column in enumerate(columns):
        table[:, j] = np.fromiter(column, object, len(table))
    return table


def kind(estimator):
    """What can be known to an estimator: "means" only, a "ranking", or "feedback"."""
    if isinstance(estimator, (BiasRecommender, PopularityRecommender)):
        return "means"
    if is_classifier(estimator):
        return "feedback"
    if getattr(estimator, "loss", "bpr") == "bpr":  # or has no loss: a model of positives
        return "ranking"
    return "feedback"


def follows_sequences(estimator):
    return isinstance(estimator, RealtimeTransformerRecommender)


def has_a_scale(estimator):
    """Whether what is predicted is feedback, and not a score that orders items alone."""
    return getattr(estimator, "loss", "") != "bpr" and not follows_sequences(estimator)


def ranks_by_what_it_predicts(estimator):
    return not isinstance(estimator, (ItemKNNRecommender, PopularityRecommender))


# ------------------------------------------------------------------------- answers


def check_unknown_ids_are_answered(estimator):
    model = fitted(estimator)
    unknown = model.predict([[0, 999, 2e9], [999, 0, 2e9], [999, 999, 2e9]])
    assert unknown.shape == (3,)
    assert np.isfinite(unknown).all()
    items, scores = model.recommend([999, 0], n_recommendations=7)
    assert items.shape == scores.shape == (2, 7)
    assert np.isfinite(scores).all()
    assert scores.dtype == np.float64
    assert np.isin(items, model.item_ids_).all()
    if has_a_scale(estimator):
        assert (unknown >= 0).all()
        assert (unknown <= 1).all()


def check_answers_change_nothing(estimator):
    model = fitted(estimator)
    before = pickle.dumps(model)
    answers(model)
    model.recommend([5], candidates=[3, 1, 2], n_recommendations=1, exclude_seen=False)
    assert pickle.dumps(model) == before


def check_seen_items_are_left_out(estimator):
    model, (X, _), (news, y) = fitted(estimator), make_log(), make_news()
    for rows, weight in ((X, None), (news, y)):
        if weight is not None:
            model.partial_fit(rows, weight)
        for user in np.unique(rows[:, 0]):
            met = set(rows[rows[:, 0] == user, 1])
            n = len(set(model.item_ids_) - met) - N_ITEMS // 2
            items, scores = model.recommend([user], n_recommendations=n)
            assert not met & set(items[0])
            assert len(set(items[0])) == n
            assert (np.diff(scores[0]) <= 0).all()
    everything, _ = model.recommend([3], n_recommendations=model.n_items_, exclude_seen=False)
    assert_array_equal(np.sort(everything[0]), np.sort(model.item_ids_))


def check_batch_equals_single(estimator):
    model = fitted(estimator)
    some = PAIRS[::37]
    each = np.concatenate([model.predict(pair[None]) for pair in some])
    # Float32 of terms of order one that may cancel: small scores are exact to its last digits.
    assert_allclose(model.predict(some), each, rtol=1e-6, atol=1e-6)
    _, scores = model.recommend(np.arange(45), n_recommendations=9)
    single = [model.recommend([user], n_recommendations=9)[1] for user in range(45)]
    assert_allclose(scores, np.concatenate(single), rtol=1e-5, atol=1e-5)


def check_scores_are_predictions(estimator):
    if ranks_by_what_it_predicts(estimator):
        model = fitted(estimator)
    elif isinstance(estimator, ItemKNNRecommender):
        model = clone(estimator).fit(make_log()[0])  # by sums, and means of 1 say nothing
    else:
        return  # ranks by popularity, predicts the mean feedback
    users = np.arange(45)
    queries = np.column_stack([users, np.full(45, 2e9)])
    items, scores = model.recommend(queries, n_recommendations=12)
    pairs = np.column_stack([np.repeat(users, 12), items.ravel(), np.full(items.size, 2e9)])
    assert_allclose(scores.ravel(), model.predict(pairs), rtol=1e-5, atol=1e-5)


def check_ties_follow_the_catalogue(estimator):
    ids = np.random.default_rng(0).permutation(50)
    X = np.column_stack([np.arange(50), ids, np.full(50, 10)])
    model = clone(estimator).fit(X, np.full(50, float(hasattr(estimator, "loss"))))
    if hasattr(model, "module_"):
        with torch.no_grad():
            for parameter in model.module_.parameters():
                parameter.zero_()
    items, _ = model.recommend([-1, ids[0]], n_recommendations=50, exclude_seen=False)
    assert_array_equal(items, [model.item_ids_] * 2)
    assert_array_equal(model.item_ids_, ids)
    items, _ = model.recommend([-1], n_recommendations=4, candidates=ids[[7, 31, 2, 20, 2]])
    assert_array_equal(items, [ids[[2, 7, 20, 31]]])


def check_wrong_questions_are_refused(estimator):
    model, (X, _) = fitted(estimator), make_log()
    left = model.n_items_ - len(np.unique(X[X[:, 0] == 4, 1]))
    with pytest.raises(ValueError, match=rf"user 4 has only {left} eligible"):
        model.recommend([4], n_recommendations=left + 1)
    assert model.recommend([4], n_recommendations=left)[0].shape == (1, left)
    with pytest.raises(ValueError, match="only 2 eligible"):
        model.recommend([999], n_recommendations=3, candidates=[1, 2])
    for wrong in (0, -1, 2.5, "3", None):
        with pytest.raises((ValueError, TypeError), match="n_recommendations"):
            model.recommend([4], n_recommendations=wrong)
    with pytest.raises(ValueError, match=r"1 of 2 items are unknown.*777"):
        model.recommend([4], n_recommendations=1, candidates=[1, 777])


def check_candidates_narrow_the_list(estimator):
    model = fitted(estimator)
    chosen = [30, 2, 17, 11, 8]
    items, scores = model.recommend(
        np.arange(35), n_recommendations=5, candidates=chosen, exclude_seen=False
    )
    assert (np.sort(items, axis=1) == np.sort(chosen)).all()
    every, its = model.recommend(
        np.arange(35), n_recommendations=model.n_items_, exclude_seen=False
    )
    for row in range(35):
        kept = np.isin(every[row], chosen)
        assert_allclose(scores[row], its[row, kept], rtol=1e-5, atol=1e-5)


def check_queries_may_have_time_and_context(estimator):
    (X, y), rng = make_log(), np.random.default_rng(0)
    context = rng.normal(size=len(X))
    model = clone(estimator).fit(np.column_stack([X, context]), y)
    queries = np.column_stack([np.arange(5), np.full(5, 2e9), np.linspace(-2, 2, 5)])
    items, scores = model.recommend(queries, n_recommendations=6)
    if ranks_by_what_it_predicts(estimator):
        for query, row, its in zip(queries, items, scores, strict=True):
            rows = np.column_stack([np.full(6, query[0]), row, np.tile(query[1:], (6, 1))])
            assert_allclose(model.predict(rows), its, rtol=1e-5, atol=1e-5)

    frame = pd.DataFrame({"user_id": X[:, 0], "item_id": X[:, 1], "mood": context})
    frame["timestamp"] = X[:, 2]
    named = clone(estimator).fit(frame, y)
    asked = pd.DataFrame(queries, columns=["user_id", "timestamp", "mood"])
    assert_array_equal(named.recommend(asked, n_recommendations=6)[1], scores)
    if hasattr(model, "module_"):
        with pytest.raises(ValueError, match="context columns"):
            named.recommend(asked.rename(columns={"mood": "weather"}))


def check_checkerboard(estimator):
    board = make_checkerboard(20, 20)
    model = clone(estimator).set_params(**_without_time(estimator)).fit(board.data, board.target)
    users = board.held_out[:, 0]
    assert_array_equal(model.recommend(users, n_recommendations=1)[0], board.held_out[:, 1:])
    if kind(estimator) == "means":
        return  # knows no tastes
    if "max_epochs" in model.get_params():
        model.set_params(max_epochs=150 if getattr(model, "solver", "") == "adam" else 60)
    # In an order of no meaning, where order may have one.
    rows = np.random.default_rng(0).permutation(len(board.data))
    if follows_sequences(estimator):
        model.fit(board.data[rows[board.target[rows] > 0]])
    elif kind(estimator) == "ranking":
        model.fit(board.data[board.target > 0])
    else:
        model.fit(board.data, board.target)
    items, _ = model.recommend(users, n_recommendations=10, exclude_seen=False)
    assert (items % 2 == users[:, None] % 2).mean() > 0.98
    against = np.column_stack([users, (board.held_out[:, 1] + 1) % 20])
    assert (model.predict(board.held_out) > model.predict(against)).all()


FADING = ("half_life", "history_half_life", "window")


def _without_time(estimator):
    return {name: None for name in FADING if name in estimator.get_params()}


def check_quality_on_a_small_log(estimator):
    """Planted tastes are found: better than the mean, or (bpr) than chance."""
    log = make_interactions(80, 60, 8000, n_factors=2, noise=0.3, random_state=0)
    y = np.clip(log.target, 0, 6) / 6
    rows = np.random.default_rng(0).permutation(8000)
    train, test = np.sort(rows[:7000]), rows[7000:]
    model = clone(estimator).set_params(**_without_time(estimator))
    if "learning_rate" in model.get_params():
        model.set_params(max_epochs=40, learning_rate=0.02 if model.solver == "adam" else None)
    if follows_sequences(estimator):
        model.set_params(max_epochs=40)
    if is_classifier(estimator):
        liked = y > 0.5
        said = model.fit(log.data[train], y[train]).predict(log.data[test])
        assert np.mean((said - liked[test]) ** 2) < 0.5 * liked[test].var()
        return
    if kind(estimator) == "ranking":
        liked = y[train] > 0.5
        said = model.fit(log.data[train][liked], y[train][liked]).predict(log.data[test])
        # Logits of a softmax tell of a user's items, and little of one user beside another.
        assert np.corrcoef(said, y[test])[0, 1] > (0.15 if follows_sequences(estimator) else 0.25)
        return
    said = model.fit(log.data[train], y[train]).predict(log.data[test])
    if kind(estimator) == "means":
        # Planted tastes differ in sign.
        assert np.mean((said - y[test]) ** 2) < 1.02 * y[test].var()
    else:
        exact = {"solver": "sgd", "loss": "squared_error"}.items() <= model.get_params().items()
        share = 0.15 if exact else 0.35
        assert np.mean((said - y[test]) ** 2) < share * y[test].var()


# --------------------------------------------------------------------------- input


def check_any_hashable_id(estimator):
    if getattr(estimator, "backbone", None) is not None:
        return  # reads ids without a text as words: another id is another item
    (X, y), (news, y_news) = make_log(), make_news()
    model = fitted(estimator).partial_fit(news, y_news)
    items, scores = model.recommend(np.arange(45), n_recommendations=5)
    names = {
        "text": lambda code: f"id {code}",
        "tuples": lambda code: ("shop", int(code)),
        "mixed": lambda code: [int(code), f"n{code}", (int(code),), 0.5 + code][code % 4],
    }
    for kind, name in names.items():
        tables = [as_table(map(name, t[:, 0]), map(name, t[:, 1]), t[:, 2]) for t in (X, news)]
        other = clone(estimator).fit(tables[0], y).partial_fit(tables[1], y_news)
        asked = as_table(map(name, PAIRS[:, 0]), map(name, PAIRS[:, 1]), PAIRS[:, 2])
        assert_array_equal(other.predict(asked), model.predict(PAIRS), err_msg=kind)
        found, its = other.recommend([name(user) for user in range(45)], n_recommendations=5)
        assert found.tolist() == [[name(item) for item in row] for row in items.tolist()], kind
        assert_array_equal(its, scores)


def check_frame_equals_array(estimator):
    (X, y), (news, y_news) = make_log(), make_news()
    expected = answers(fitted(estimator).partial_fit(news, y_news))

    def columns(rows):  # in an order of their own
        moments = rows[:, 2].astype("datetime64[s]").astype("datetime64[us]")
        return {"item_id": rows[:, 1], "timestamp": moments, "user_id": rows[:, 0]}

    for make in (pd.DataFrame, pl.DataFrame, pa.table):
        model = clone(estimator).fit(make(columns(X)), y)
        model.partial_fit(make(columns(news)), y_news)
        assert_array_equal(model.predict(make(columns(PAIRS))), expected[: len(PAIRS)])
        assert list(model.feature_names_in_) == ["item_id", "timestamp", "user_id"]
        assert model.n_features_in_ == 3
        with pytest.raises(ValueError, match=r"unknown: \['mood'\]"):
            model.partial_fit(make({**columns(news), "mood": y_news}), y_news)
        queries = make({"user_id": np.arange(45)})
        _, scores = model.recommend(queries, n_recommendations=3)
        assert_array_equal(scores, expected[-45 * 6 :].reshape(45, 6)[:, 3:])


def check_read_only_input_stays_as_it_is(estimator):
    (X, y), weight = make_log(), np.linspace(0.5, 1, 400)
    kept = X.copy(), y.copy(), weight.copy()
    for array in (X, y, weight):
        array.flags.writeable = False
    model = clone(estimator).fit(X, y, sample_weight=weight)
    model.partial_fit(X, y, sample_weight=weight)
    assert np.isfinite(model.predict(X)).all()
    for array, before in zip((X, y, weight), kept, strict=True):
        assert_array_equal(array, before)


def check_feedback_may_be_absent(estimator):
    X, y = make_log()
    model = clone(estimator).fit(X).partial_fit(make_news()[0])
    assert np.isfinite(answers(model)).all()
    with pytest.raises(ValueError, match="y was not given to fit"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match="y was given to fit"):
        fitted(estimator).partial_fit(X)


# -------------------------------------------------------------------------- copies


def check_copies_go_their_own_way(estimator):
    model, news = fitted(estimator), make_news()
    before = answers(model)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for other in copies:
        assert_array_equal(answers(other), before)
        other.partial_fit(*news)
    assert_array_equal(answers(model), before)  # shares nothing with its copies
    model.partial_fit(*news)
    for other in copies:
        assert_array_equal(answers(other), answers(model))
    new = clone(model)
    assert not hasattr(new, "user_ids_")
    assert new.get_params().keys() == model.get_params().keys()
    assert_array_equal(answers(new.fit(*make_log())), before)


def _fit_and_answer(estimator):
    return answers(fitted(estimator).partial_fit(*make_news()))


def check_processes(estimator):
    here = _fit_and_answer(estimator)
    for there in Parallel(n_jobs=2)(delayed(_fit_and_answer)(estimator) for _ in range(2)):
        # The last bit of a matrix product in torch may differ from process to process.
        assert_allclose(there, here, rtol=1e-5 if is_classifier(estimator) else 0)


def check_seed_decides_everything(estimator):
    news = make_news()
    assert_array_equal(*(answers(fitted(estimator).partial_fit(*news)) for _ in range(2)))
    if "random_state" in estimator.get_params():
        other = clone(estimator).set_params(random_state=1)
        assert (answers(fitted(other)) != answers(fitted(estimator))).any()


def check_global_generators_are_left_alone(estimator):
    seeds = (0, None) if "random_state" in estimator.get_params() else (None,)
    for seed in seeds:
        model = clone(estimator)
        if seed is None and len(seeds) > 1:
            model.set_params(random_state=None)
        states = random.getstate(), torch.get_rng_state()
        legacy = np.random.get_state()  # noqa: NPY002
        answers(model.fit(*make_log()).partial_fit(*make_news()))
        assert random.getstate() == states[0]
        assert torch.equal(torch.get_rng_state(), states[1])
        for ours, before in zip(np.random.get_state(), legacy, strict=True):  # noqa: NPY002
            assert_array_equal(ours, before)


def recommender_checks():
    """Every check of this file, in order."""
    return [f for name, f in globals().items() if name.startswith("check_")]
