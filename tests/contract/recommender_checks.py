"""The contract of every recommender: each check takes an unfitted estimator and raises."""

import copy
import pickle
import random
from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from torch import nn

from sklearn_recft import BayesianMFClassifier
from sklearn_recft.base import recommender_tags
from sklearn_recft.datasets import make_checkerboard, make_interactions
from sklearn_recft.text import TextEncoder
from tests.contract.helpers import (
    N_ITEMS,
    PAIRS,
    another_process,
    answers,
    as_table,
    fit,
    fitted,
    for_target,
    is_personal,
    learns_order,
    lists_what_it_predicts,
    make_log,
    make_news,
    only_orders,
    only_ranks,
    predict,
    reads,
    reads_ids_as_texts,
    update,
)

# ------------------------------------------------------------------------- answers


def check_unknown_ids_are_answered(estimator):
    model = fitted(estimator)
    unknown = predict(model, [[0, 999, 2e9], [999, 0, 2e9], [999, 999, 2e9]])
    assert unknown.shape == (3,)
    assert np.isfinite(unknown).all()
    items, scores = model.recommend([999, 0], n_recommendations=7)
    assert items.shape == scores.shape == (2, 7)
    assert np.isfinite(scores).all()
    assert scores.dtype == np.float64
    assert np.isin(items, model.item_ids_).all()
    if recommender_tags(estimator).predicts != "order":
        assert (unknown >= 0).all()
        assert (unknown <= 1).all()


def check_seen_items_are_left_out(estimator):
    model, (X, _), (news, y) = fitted(estimator), make_log(), make_news()
    for rows in (X, news):
        if rows is news:
            update(model, news, y)
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
    some = PAIRS[::13]
    each = np.concatenate([predict(model, pair[None]) for pair in some])
    # Float32 of terms of order one that may cancel: small scores are exact to its last digits.
    assert_allclose(predict(model, some), each, rtol=1e-6, atol=1e-6)
    _, scores = model.recommend(np.arange(45), n_recommendations=9)
    single = [model.recommend([user], n_recommendations=9)[1] for user in range(45)]
    assert_allclose(scores, np.concatenate(single), rtol=1e-5, atol=1e-5)


def check_scores_are_predictions(estimator):
    if not lists_what_it_predicts(estimator):
        return  # it ranks by another score, says its tag
    model, users = fitted(estimator), np.arange(45)
    queries = np.column_stack([users, np.full(45, 2e9)])
    items, scores = model.recommend(queries, n_recommendations=12)
    pairs = np.column_stack([np.repeat(users, 12), items.ravel(), np.full(items.size, 2e9)])
    assert_allclose(scores.ravel(), predict(model, pairs), rtol=1e-5, atol=1e-5)


def check_ties_follow_the_catalogue(estimator):
    ids = np.random.default_rng(0).permutation(50)
    X = np.column_stack([np.arange(50), ids, np.full(50, 10)])
    classes = {"classes": [0, 1]} if is_classifier(estimator) else {}
    model = clone(estimator).partial_fit(X, np.ones(50), **classes)
    modules = _modules_of(model)
    is_label = isinstance(estimator, BayesianMFClassifier)
    if is_label or estimator.get_params().get("loss") == "implicit":  # zeros alone are refused
        model._model.center = 0.0
        model._model.item_table.covariances[:] = 0
        for table in (model._model.user_table, model._model.item_table):
            table.means[:] = table.unknown[:] = 0
    elif not modules:
        model.fit(X, np.zeros(50))  # sums of zeros are zero
    with torch.no_grad():
        for parameter in (p for module in modules for p in module.parameters()):
            parameter.zero_()
    items, _ = model.recommend([-1, ids[0]], n_recommendations=50, exclude_seen=False)
    assert_array_equal(items, [model.item_ids_] * 2)
    assert_array_equal(model.item_ids_, ids)
    items, _ = model.recommend([-1], n_recommendations=4, candidates=ids[[7, 31, 2, 20, 2]])
    assert_array_equal(items, [ids[[2, 7, 20, 31]]])


def _modules_of(model):
    """Return the modules that a model trains."""
    members = getattr(model._model, "members", None)
    models = [model._model, *(members.models if members else ())]
    parts = [part for one in models for part in one.parts().values()]
    found = [getattr(part, "module", part) for part in parts]
    return [m for m in found if isinstance(m, nn.Module) and not isinstance(m, TextEncoder)]


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
    with pytest.raises(TypeError, match="n_recommendations=True"):
        model.recommend([4], n_recommendations=True)
    with pytest.raises(ValueError, match="eligible"):
        model.recommend([4], n_recommendations=10**13)
    for given in ({"X": np.array(4)}, {"X": [4], "candidates": np.array(3)}):
        with pytest.raises(ValueError, match=r"0-dimensional array; use \[[34]\]"):
            model.recommend(**given, n_recommendations=1)
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


def check_lists_hold_the_best_eligible_items(estimator):
    """Each list is a sort of all scores of the user's eligible items, found one by one."""
    model, (X, _), rng = fitted(estimator), make_log(), np.random.default_rng(0)
    users, k = np.r_[np.arange(0, 34, 3), 999, 3], 6  # some unknown, one twice
    catalogue = model.item_ids_.tolist()
    full = model.recommend(users, n_recommendations=len(catalogue), exclude_seen=False)
    scores_of = [dict(zip(*map(list, row), strict=True)) for row in zip(*full, strict=True)]
    few, many = (_some_pairs(rng, users, catalogue, n) for n in (30, 400))
    choices = (None, catalogue[3:20], few, many), (None, [*catalogue[10:15], 10**6], many)
    seen = {user: set(X[X[:, 0] == user, 1].tolist()) for user in users}
    for place, (candidates, exclude) in enumerate(product(*choices)):
        given = {"candidates": candidates, "exclude": exclude, "exclude_seen": place % 2 == 0}
        lists = model.recommend(users, n_recommendations=k, on_missing="pad", **given)
        wanted, barred = _chosen(candidates, users, catalogue), _chosen(exclude, users, [])
        for user, score_of, items, scores in zip(users, scores_of, *lists, strict=True):
            allowed = set(wanted[user] - barred[user])
            allowed -= seen[user] if given["exclude_seen"] else set()
            size = min(k, len(allowed))
            assert set(items[:size]) <= allowed
            assert len(set(items[:size])) == size
            assert items[size:].tolist() == [None] * (k - size)
            assert (scores[size:] == -np.inf).all()
            best = sorted((score_of[item] for item in allowed), reverse=True)[:size]
            assert_allclose(scores[:size], best, rtol=1e-5, atol=1e-5)
            own = [score_of[item] for item in items[:size]]
            assert_allclose(scores[:size], own, rtol=1e-5, atol=1e-5)


def _some_pairs(rng, users, items, n):
    """Return a table of pairs, some twice, and some of users who are not queried."""
    users = np.r_[users[:-4], 10**6]
    return pd.DataFrame({"item_id": rng.choice(items, n), "user_id": rng.choice(users, n)})


def _chosen(given, users, default):
    """Return the items that an option names for each user."""
    if not isinstance(given, pd.DataFrame):
        chosen = frozenset(default if given is None else given)
        return dict.fromkeys(users, chosen)
    found = {user: set() for user in users}
    for user, item in given[["user_id", "item_id"]].to_numpy():
        if user in found:
            found[user].add(item)
    return found


def check_lists_as_a_table(estimator):
    model = fitted(estimator)
    asked = {"user_id": [3, 999, 7]}
    few = pd.DataFrame({"user_id": [3, 3, 7], "item_id": model.item_ids_[[4, 9, 4]]})
    options = {"n_recommendations": 3, "exclude_seen": False, "on_missing": "pad"}
    for candidates in (None, few):
        items, scores = model.recommend([3, 999, 7], candidates=candidates, **options)
        expected = [
            (user, rank, item, score)
            for user, row, its in zip(asked["user_id"], items, scores, strict=True)
            for rank, (item, score) in enumerate(zip(row, its, strict=True), 1)
            if item is not None
        ]
        for make in (list, np.array, pd.Series, pl.Series, pd.DataFrame, pl.DataFrame, pa.table):
            frame = make in (pd.DataFrame, pl.DataFrame, pa.table)
            X = make(asked) if frame else make(asked["user_id"])
            table = model.recommend(X, candidates=candidates, as_frame=True, **options)
            kind = {pl.Series: pl.DataFrame, pa.table: pa.Table}.get(make, type(table))
            assert type(table) is kind
            names = table.column_names if kind is pa.Table else list(table.columns)
            assert names == ["user_id", "rank", "item_id", "score"]
            columns = [np.asarray(table[name]).tolist() for name in names]
            assert list(zip(*columns, strict=True)) == expected


def check_short_lists_are_refused_or_padded(estimator):
    model = fitted(estimator)
    items, scores = model.recommend([4, 999], n_recommendations=9, exclude_seen=False)
    padded, its = model.recommend(
        [4, 999], n_recommendations=9, exclude_seen=False, on_missing="pad"
    )
    assert padded.dtype == object  # whatever is padded
    assert padded.tolist() == items.tolist()
    assert_array_equal(its, scores)
    wide = model.n_items_ + 2
    padded, its = model.recommend(
        [999], n_recommendations=wide, exclude_seen=False, on_missing="pad"
    )
    assert set(padded[0, :-2]) == set(model.item_ids_.tolist())
    assert padded[0, -2:].tolist() == [None, None]
    assert its[0, -2:].tolist() == [-np.inf, -np.inf]
    mine = pd.DataFrame({"user_id": [4, 4], "item_id": model.item_ids_[:2]})
    given = {"candidates": mine, "exclude_seen": False}
    with pytest.raises(ValueError, match=r"no rows for 1 of 2 queried users, the first is 999"):
        model.recommend([4, 999], n_recommendations=1, **given)
    with pytest.raises(ValueError, match="user 4 has only 2 eligible items; ask for fewer"):
        model.recommend([4], n_recommendations=3, **given)
    padded, its = model.recommend([4, 999], n_recommendations=3, on_missing="pad", **given)
    assert padded[1].tolist() == [None] * 3
    assert set(padded[0, :2].tolist()) == set(mine["item_id"].tolist())
    with pytest.raises(ValueError, match="candidates: 1 of 2 items are unknown, the first is 777"):
        model.recommend([4], candidates=mine.assign(item_id=[1, 777]), on_missing="pad")
    with pytest.raises(ValueError, match="only 0 eligible items"):
        model.recommend([4], n_recommendations=1, exclude=model.item_ids_)
    for wrong in ({"on_missing": "drop"}, {"exclude_seen": 1}, {"as_frame": "yes"}):
        with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
            model.recommend([4], n_recommendations=1, **wrong)


def check_queries_may_have_time_and_context(estimator):
    (X, y), rng = make_log(), np.random.default_rng(0)
    context = rng.normal(size=len(X))
    model = fit(estimator, np.column_stack([X, context]), y)
    queries = np.column_stack([np.arange(5), np.full(5, 2e9), np.linspace(-2, 2, 5)])
    items, scores = model.recommend(queries, n_recommendations=6)
    if lists_what_it_predicts(estimator):
        for query, row, its in zip(queries, items, scores, strict=True):
            rows = np.column_stack([np.full(6, query[0]), row, np.tile(query[1:], (6, 1))])
            assert_allclose(predict(model, rows), its, rtol=1e-5, atol=1e-5)

    frame = pd.DataFrame({"user_id": X[:, 0], "item_id": X[:, 1], "mood": context})
    frame["timestamp"] = X[:, 2]
    named = fit(estimator, frame, y)
    asked = pd.DataFrame(queries, columns=["user_id", "timestamp", "mood"])
    assert_array_equal(named.recommend(asked, n_recommendations=6)[1], scores)
    if reads(estimator, "context"):
        with pytest.raises(ValueError, match="context columns"):
            named.recommend(asked.rename(columns={"mood": "weather"}))


def check_checkerboard(estimator):
    board = make_checkerboard(20, 20)
    model = fit(_long_trained(estimator, 5), board.data, board.target)
    users = board.held_out[:, 0]
    assert_array_equal(model.recommend(users, n_recommendations=1)[0], board.held_out[:, 1:])
    if not is_personal(estimator):
        return  # knows no tastes
    # In an order of no meaning, where order may have one.
    rows = np.random.default_rng(0).permutation(len(board.data))
    positive = board.target[rows] > 0
    if learns_order(estimator):
        model.fit(board.data[rows[positive]])
    elif only_ranks(estimator):
        model.fit(board.data[board.target > 0])
    items, _ = model.recommend(users, n_recommendations=10, exclude_seen=False)
    assert (items % 2 == users[:, None] % 2).mean() > 0.98
    against = np.column_stack([users, (board.held_out[:, 1] + 1) % 20])
    assert (predict(model, board.held_out) > predict(model, against)).all()


def _long_trained(estimator, times):
    """Return a clone without time decay, that trains ``times`` as long as its class does."""
    own = estimator.get_params()
    model = clone(estimator)
    decays = ("half_life", "history_half_life", "habit_half_life", "window")
    allowed = estimator._parameter_constraints
    model.set_params(**{name: None for name in decays if name in own and None in allowed[name]})
    if "max_epochs" in own:
        usual = 30 if "solver" in own else 8  # where the class chooses by the size of the log
        model.set_params(max_epochs=times * (type(estimator)().max_epochs or usual))
    return model


def check_quality_on_a_small_log(estimator):
    """Planted tastes are found: better than the mean, or (of positives) than chance."""
    if only_orders(estimator) and not is_personal(estimator):
        return  # its scores are not ratings, and say nothing of tastes
    in_order = learns_order(estimator)
    if in_order:
        size = (40, 30, 2000)  # long sequences
    else:
        size = (80, 60, 5000 if hasattr(type(estimator), "net_") else 8000)  # many users
    log = make_interactions(*size, n_factors=2, noise=0.3, random_state=0)
    y = np.clip(log.target, 0, 6) / 6
    rows = np.random.default_rng(0).permutation(len(y))
    n_train = len(y) * 7 // 8
    train, test = np.sort(rows[:n_train]), rows[n_train:]
    model, liked = _long_trained(estimator, 3 if in_order else 1), y > 0.5
    if is_personal(estimator) and only_ranks(estimator):
        train = train[liked[train]]
        said = fit(model, log.data[train], y[train]).predict(log.data[test])
        # Logits of a softmax tell of a user's items, and little of one user beside another.
        assert np.corrcoef(said, y[test])[0, 1] > (0.35 if in_order else 0.25)
        return
    target = for_target(estimator, y)
    said = predict(fit(model, log.data[train], y[train]), log.data[test])
    error = np.mean((said - target[test]) ** 2) / target[test].var()
    if is_personal(estimator):
        assert error < (0.5 if is_classifier(estimator) else 0.35)
    else:
        assert error < 1.02  # planted tastes differ in sign


# --------------------------------------------------------------------------- input


def check_any_hashable_id(estimator):
    if reads_ids_as_texts(estimator):
        return  # an id without a text is read as words: another id is another item
    (X, y), (news, y_news) = make_log(), make_news()
    model = update(fitted(estimator), news, y_news)
    items, scores = model.recommend(np.arange(45), n_recommendations=5)
    names = {
        "text": lambda code: f"id {code}",
        "tuples": lambda code: ("shop", int(code)),
        "mixed": lambda code: [int(code), f"n{code}", (int(code),), 0.5 + code][code % 4],
    }
    for kind, name in names.items():
        tables = [as_table(map(name, t[:, 0]), map(name, t[:, 1]), t[:, 2]) for t in (X, news)]
        other = update(fit(estimator, tables[0], y), tables[1], y_news)
        asked = as_table(map(name, PAIRS[:, 0]), map(name, PAIRS[:, 1]), PAIRS[:, 2])
        assert_array_equal(predict(other, asked), predict(model, PAIRS), err_msg=kind)
        found, its = other.recommend([name(user) for user in range(45)], n_recommendations=5)
        assert found.tolist() == [[name(item) for item in row] for row in items.tolist()], kind
        assert_array_equal(its, scores)


def check_frame_equals_array(estimator):
    (X, y), (news, y_news) = make_log(), make_news()
    expected = answers(update(fitted(estimator), news, y_news))

    def columns(rows, prefix=""):  # in an order of their own
        moments = rows[:, 2].astype("datetime64[s]").astype("datetime64[us]")
        table = {"item_id": rows[:, 1], "timestamp": moments, "user_id": rows[:, 0]}
        return {prefix + name: column for name, column in table.items()}

    def in_words(rows):
        return columns(rows) | {"timestamp": rows[:, 2].astype("datetime64[s]").astype(str)}

    for make in (pd.DataFrame, pl.DataFrame, pa.table):
        prefix = "remainder__" if make is pl.DataFrame else ""  # as a ColumnTransformer has it
        model = fit(estimator, make(columns(X, prefix)), y)
        update(model, make(columns(news) if make is pa.table else in_words(news)), y_news)
        for table in (columns, in_words):
            assert_array_equal(predict(model, make(table(PAIRS))), expected[: len(PAIRS)])
        names = [prefix + name for name in ("item_id", "timestamp", "user_id")]
        assert list(model.feature_names_in_) == names
        assert model.n_features_in_ == 3
        with pytest.raises(ValueError, match=r"unknown: \['mood'\]"):
            update(model, make({**columns(news), "mood": y_news}), y_news)
        queries = make({prefix + "user_id": np.arange(0, 45, 3)})
        _, scores = model.recommend(queries, n_recommendations=3)
        assert_array_equal(scores, expected[-15 * 6 :].reshape(15, 6)[:, 3:])


def check_a_leaked_label_is_refused(estimator):
    (X, y), rng = make_log(), np.random.default_rng(0)
    target, model = for_target(estimator, y).astype(float), clone(estimator)
    frame = pd.DataFrame({"user_id": X[:, 0], "item_id": X[:, 1], "timestamp": X[:, 2]})
    with pytest.raises(ValueError, match=r"stars: .*equals y .*drop.columns='stars'"):
        model.fit(frame.assign(hour=rng.normal(size=400), stars=target), target)
    leak = 3 - target - 1e-4 * rng.normal(size=400)
    with pytest.raises(ValueError, match=r"x3: .*a correlation of size .*np.delete\(X, 3, 1\)"):
        model.partial_fit(np.column_stack([X, leak]), target)
    assert not hasattr(model, "user_ids_")


def check_read_only_input_stays_as_it_is(estimator):
    (X, y), weight = make_log(), np.linspace(0.5, 1, 400)
    y = for_target(estimator, y)
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
    with pytest.raises(ValueError, match="fit was called without y"):
        update(model, X, y)
    with pytest.raises(ValueError, match="fit was called with y"):
        fitted(estimator).partial_fit(X)


# -------------------------------------------------------------------------- copies


def check_copies_go_their_own_way(estimator):
    model, news = fitted(estimator), make_news()
    before = answers(model)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for other in copies:
        assert_array_equal(answers(other), before)
        update(other, *news)
    assert_array_equal(answers(model), before)  # shares nothing with its copies
    update(model, *news)
    for other in copies:
        assert_array_equal(answers(other), answers(model))
    new = clone(model)
    assert not hasattr(new, "user_ids_")
    assert new.get_params().keys() == model.get_params().keys()
    assert_array_equal(answers(fit(new, *make_log())), before)


def _fit_and_answer(estimator):
    return answers(update(fit(estimator, *make_log()), *make_news()))


def check_processes(estimator):
    """Another process, started anew as on every system, says the same."""
    there = another_process().submit(_fit_and_answer, estimator)
    # The last bit of a matrix product in torch may differ from process to process.
    rtol = 1e-5 if hasattr(type(estimator), "net_") else 0
    here = answers(update(fitted(estimator), *make_news()))
    assert_allclose(here, there.result(), rtol=rtol)


def check_seed_decides_everything(estimator):
    model, news = fitted(estimator), make_news()  # of a fit of its own, before this one
    again = fit(estimator, *make_log())
    expected = answers(model)
    assert_array_equal(answers(again), expected)
    assert_array_equal(answers(update(again, *news)), answers(update(model, *news)))
    if "random_state" in estimator.get_params():
        other = clone(estimator).set_params(random_state=1)
        assert (answers(fit(other, *make_log())) != expected).any()


def check_global_generators_are_left_alone(estimator):
    seeds = (0, None) if "random_state" in estimator.get_params() else (None,)
    for seed in seeds:
        model = clone(estimator)
        if seed is None and len(seeds) > 1:
            model.set_params(random_state=None)
        states = random.getstate(), torch.get_rng_state()
        legacy = np.random.get_state()  # noqa: NPY002
        _fit_and_answer(model)
        assert random.getstate() == states[0]
        assert torch.equal(torch.get_rng_state(), states[1])
        for ours, before in zip(np.random.get_state(), legacy, strict=True):  # noqa: NPY002
            assert_array_equal(ours, before)


def recommender_checks():
    """Every check of this file, in order."""
    return [f for name, f in globals().items() if name.startswith("check_")]
