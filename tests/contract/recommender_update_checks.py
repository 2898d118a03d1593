"""The contract of `partial_fit`: what it keeps, and that failing or killed it leaves no trace."""

import copy
import gc
import linecache
import pickle
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier

import sklearn_recft
from sklearn_recft import ALSRecommender
from sklearn_recft.base import recommender_tags
from sklearn_recft.loop._rows import is_cut_free
from sklearn_recft.model_selection import iter_prequential
from tests.contract.helpers import (
    DAY,
    PAIRS,
    answers,
    as_table,
    assert_same,
    fit,
    fitted,
    for_target,
    make_log,
    make_news,
    memory,
    observe,
    predict,
    predicting_verb,
    update,
)

PACKAGE = str(Path(sklearn_recft.__file__).parent)
# Fitted attributes of items that users share; `observe` does not change them.
SHARED = ("item_weights_", "similarity_", "item_factors_")
TAKES_A_LOCK = re.compile(r"\s*with .*(one_at_a_time|\b_lock|_mutex|_TURNS|_SETTINGS)\b")


def check_first_partial_fit_is_fit(estimator):
    model = update(clone(estimator), *make_log())
    assert_array_equal(answers(model), answers(fitted(estimator)))


def check_growth_keeps_codes(estimator):
    model, (news, y) = fitted(estimator), make_news()
    users, items = model.user_ids_.copy(), model.item_ids_.copy()
    update(model, news, y)
    assert_array_equal(model.user_ids_[: len(users)], users)
    assert_array_equal(model.item_ids_[: len(items)], items)
    assert set(model.user_ids_) == set(users) | set(news[:, 0])
    assert set(model.item_ids_) == set(items) | set(news[:, 1])
    assert (model.n_users_, model.n_items_) == (len(model.user_ids_), len(model.item_ids_))
    assert model.n_users_ > len(users)


def check_future_changes_no_past_prediction(estimator):
    """A future that contradicts the last rows and adds ids is as good as none."""
    X, y = make_log(70)
    cut = 54
    later, y_later = X.copy(), y.copy()
    later[cut:, :2], y_later[cut:] = later[cut:, :2][::-1] + 3, 1 - y[cut:]
    again = slice(cut - 8, cut)  # the replays predict them
    later[cut : cut + 8, :2], y_later[cut : cut + 8] = X[again, :2], 1 - y[again]
    y, y_later = for_target(estimator, y), for_target(estimator, y_later)
    futures = (X[:cut], y[:cut]), (later, y_later)

    def replayed(rows, feedback, size, n_rows):
        begin = cut - n_rows
        steps = iter_prequential(clone(estimator), rows, feedback, warm_up=begin, chunk_size=size)
        found = []
        while len(found) < n_rows:
            found.extend(next(steps).predictions)
        return np.array(found[:n_rows])

    for size, n_rows in ((1, 5), (10, 20)):
        said = [replayed(*future, size, n_rows) for future in futures]
        assert_array_equal(said[0], said[1])
    verb = predicting_verb(estimator)
    if verb:
        said = [getattr(clone(estimator), verb)(*future)[:cut] for future in futures]
        assert_array_equal(said[0], said[1])


def check_a_predicted_row_equals_predict(estimator):
    """The first row of known ids is predicted as `predict` would."""
    verb, (X, y) = predicting_verb(estimator), make_log()
    if verb:
        model, row = fitted(estimator), X[5:6] + np.array([0, 0, 366 * DAY])
        expected = predict(model, row)
        given = getattr(model, verb)(row, for_target(model, y[5:6]))
        assert_allclose(given, expected, rtol=1e-6)


def check_cuts_of_a_stream_change_nothing(estimator):
    """Learned in one call or in several: the same predictions and answers."""
    if any(getattr(estimator, name, None) is not None for name in ("backbone", "training")):
        return  # slow, and the same code as without texts
    news, y = make_news()
    y, cuts = for_target(estimator, y), ((0, 1), (1, 20), (20, 60))
    verb = predicting_verb(estimator)
    if verb:
        one, other = fitted(estimator), fitted(estimator)
        given = getattr(one, verb)(news, y)
        parts = [getattr(other, verb)(news[a:b], y[a:b]) for a, b in cuts]
        assert_array_equal(given, np.concatenate(parts))
        assert_array_equal(answers(one), answers(other))
        if is_cut_free(one, verb):  # a replay joins calls
            assert_same(one._model.state(), other._model.state(), "state")
    # A user's factors are solved at the time of the newest event of the call.
    solves_then = isinstance(estimator, ALSRecommender) and estimator.half_life is not None
    if hasattr(estimator, "observe") and not solves_then:
        one, other = fitted(estimator).observe(news, y), fitted(estimator)
        for a, b in cuts:
            other.observe(news[a:b], y[a:b])
        assert_allclose(predict(one, PAIRS), predict(other, PAIRS), rtol=1e-5, atol=1e-6)
        if is_cut_free(one, "observe"):
            assert_same(one._model.state(), other._model.state(), "state")


def check_rows_of_weight_zero_are_answered(estimator):
    """Each row is predicted, in order; rows of weight 0 leave no trace and see earlier rows."""
    verb, (news, y_news) = predicting_verb(estimator), make_news()
    if not verb:
        return
    rows = np.arange(60) % 5 < 2
    y_news, bystander = for_target(estimator, y_news), np.arange(60) % 5 == 3
    news[:, 2] = 3e9 + 60 * np.arange(60)
    news[bystander, 0] = 999  # no id of theirs is learned
    weight = np.where(rows, np.linspace(0.5, 1, 60), 0)
    for model in (clone(estimator), fitted(estimator)):
        other, first = copy.deepcopy(model), copy.deepcopy(model)
        given = getattr(model, verb)(news, y_news, sample_weight=weight)
        expected = getattr(other, verb)(news[rows], y_news[rows], sample_weight=weight[rows])
        assert given.shape == (60,)
        assert np.isfinite(given).all()
        assert_array_equal(given[rows], expected)
        assert_array_equal(predict(model, PAIRS), predict(other, PAIRS))
        assert_array_equal(model.user_ids_, other.user_ids_)
    getattr(first, verb)(news[:2], y_news[:2], sample_weight=weight[:2])
    if getattr(getattr(first, "training", None), "update_rate", None) is None:  # the net stayed
        assert_allclose(given[2:5], predict(first, news[2:5]), rtol=1e-6)


def check_huge_numbers_are_learned_or_refused(estimator):
    """A number that makes parameters infinite undoes the call; no answer is ever NaN."""
    (X, y), (news, y_news) = make_log(), make_news()
    rng = np.random.default_rng(0)
    X, news = (np.column_stack([rows, rng.normal(size=len(rows))]) for rows in (X, news))
    model = fit(estimator, X, for_target(estimator, y))
    for size in (1e20, 1e300):
        context, weight, huge = news.copy(), np.ones(len(news)), y_news.astype(float)
        context[3, 3], weight[3], huge[3] = size, 1e8 * size, 1e8 * size
        _learned_or_refused(model, X[:50], context, y_news)
        _learned_or_refused(model, X[:50], news, y_news, sample_weight=weight)
        if not is_classifier(model):
            _learned_or_refused(model, X[:50], news, huge)


def _learned_or_refused(model, asked, X, y, **options):
    model = copy.deepcopy(model)
    before, refusal = predict(model, asked), None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "reg=.* is lost in rounding", UserWarning)  # EASE
            update(model, X, y, **options)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert "scale" in refusal
        assert_array_equal(predict(model, asked), before)
    assert np.isfinite(predict(model, asked)).all()
    _, scores = model.recommend(asked[:5, 0], n_recommendations=3, exclude_seen=False)
    assert np.isfinite(scores).all()


def check_memory_is_bounded(estimator):
    model = fitted(estimator)
    sizes = []
    for call in range(20):
        X, y = make_log(200, seed=call % 4)
        update(model, X + np.array([0, 0, call * 400 * DAY]), y)
        sizes.append(len(pickle.dumps(model)))
    assert max(sizes[16:]) <= max(sizes[:16]) + 1000


def check_a_stream_of_events_equals_rows(estimator):
    model, other, (news, y) = fitted(estimator), fitted(estimator), make_news(2)
    news[1, :2] = make_log()[0][0, :2]  # known ids: what learns them quickly
    events = model.stream()
    for (user, item, time), label in zip(news.tolist(), for_target(model, y).tolist(), strict=True):
        assert events.predict_one(user, item, time) == predict(other, [[user, item, time]])[0]
        events.learn_one(user, item, label, time)
        other.partial_fit([[user, item, time]], [label])
    assert_same(model._model.state(), other._model.state(), "model")
    items, scores = events.recommend_one(user, 5, timestamp=2_000_000_000)
    listed = other.recommend([[user, 2_000_000_000]], n_recommendations=5)
    assert_array_equal(items, listed[0][0])
    assert_array_equal(scores, listed[1][0])
    verb = predicting_verb(estimator)
    if verb is not None:
        found = getattr(other, verb)([[user, item, time]], [label])
        assert events.predict_learn_one(user, item, label, time) == np.ravel(found)[-1]
        assert_same(model._model.state(), other._model.state(), "model")
    before = memory(model)
    for wrong in ((user, item, np.nan, time), (user, item, label, np.inf)):
        with pytest.raises(ValueError, match=r"NaN or inf|no seconds|label|timestamp|nan"):
            events.learn_one(*wrong)
    assert memory(model) == before


def check_a_batch_is_learned_once(estimator):
    if any(getattr(estimator, name, None) is not None for name in ("backbone", "training")):
        return  # slow, and the same code as without texts
    model, (news, y) = fitted(estimator), make_news(12)
    state = model._model.state()
    with pytest.raises(ValueError, match="inconsistent"):
        update(model, news, y[:-1], batch_id="monday")
    with pytest.raises(TypeError, match="batch_id must be a string or an integer, got a float"):
        update(model, news, y, batch_id=2.5)
    assert_same(model._model.state(), state, "state")
    update(model, news, y, batch_id="monday")  # it failed before, so it is not known
    learned, last = model._model.state(), predict(model, news)
    assert learned["values"]["batches"].shape == (1,)
    for again in (model, pickle.loads(pickle.dumps(model))):
        with pytest.warns(UserWarning, match="batch_id='monday' was learned before"):
            assert update(again, news, y, batch_id="monday") is again
        assert again.has_learned("monday")
        assert not again.has_learned("tuesday")
        assert_same(again._model.state(), learned, "state")
    assert_array_equal(predict(model, news), last)


# ----------------------------------------------------------------------- observe


def check_observed_events_are_learned_later(estimator):
    """Where `partial_fit` is exact, `observe` and then `partial_fit` end as one `fit`."""
    if not hasattr(estimator, "observe"):
        return
    (X, y), (news, y_news) = make_log(), make_news()
    model = fit(estimator, X, y)
    shared = [getattr(model, name) for name in SHARED if hasattr(model, name)]
    before = [np.array(part.toarray() if issparse(part) else part) for part in shared]
    observed = observe(copy.deepcopy(model), news[:40], y_news[:40])
    assert (answers(observed) != answers(model)).any()
    assert observed.n_items_ == len(np.union1d(X[:, 1], news[:40, 1]))
    for name, part in zip([n for n in SHARED if hasattr(model, n)], before, strict=True):
        now = getattr(observed, name)
        now = now.toarray() if issparse(now) else now
        assert_array_equal(now[tuple(map(slice, part.shape))], part)
        assert not now[len(part) :].any()  # new items say nothing yet
    if recommender_tags(estimator).partial_fit == "exact":
        update(observed, news[40:], y_news[40:])
        assert_allclose(
            answers(observed), answers(update(model, news, y_news)), rtol=1e-5, atol=1e-5
        )


def check_failing_to_observe_leaves_no_trace(estimator):
    if not hasattr(estimator, "observe"):
        return
    model, (news, y) = fitted(estimator), make_news()
    state, y = model._model.state(), for_target(model, y)
    nobody = as_table(*news.T)
    nobody[30, 0] = None
    for bad in ((nobody, y), (news, y[:-1]), (news,), (news[:, :1], y), (news[:0], y[:0])):
        with pytest.raises((ValueError, TypeError)):
            model.observe(*bad)
        assert_same(model._model.state(), state, "state")
    _kill(estimator, make_news(), n_points=10, learn=observe)


# ------------------------------------------------------------------- leaves no trace


def check_failing_leaves_no_trace(estimator):
    model, (news, y) = fitted(estimator), make_news()
    before, untouched = answers(model), memory(model)
    nobody = as_table(*news.T)
    nobody[30, 0] = None
    weight = np.ones(60)
    bad = [
        ((nobody, y), {}),
        ((as_table(news[:, 0], [["list"]] * 60, news[:, 2]), y), {}),
        ((np.where(np.arange(180).reshape(60, 3) == 92, np.nan, news), y), {}),
        ((news, np.where(np.arange(60) == 31, np.nan, y)), {}),
        ((news, np.where(np.arange(60) == 31, np.inf, y)), {}),
        ((news, y[:-1]), {}),
        ((news,), {}),
        ((news, y), {"sample_weight": weight - 2 * (np.arange(60) == 31)}),
        ((news, y), {"sample_weight": weight[:-1]}),
        ((news[:, :1], y), {}),
        ((np.column_stack([news, y]), y), {}),
        ((news[:0], y[:0]), {}),
    ]
    verbs = [verb for verb in ("partial_fit", predicting_verb(model)) if verb]
    for (rows, *feedback), kwargs in bad:
        feedback = [for_target(model, values) for values in feedback]
        for verb in verbs:
            with pytest.raises((ValueError, TypeError)):
                getattr(model, verb)(rows, *feedback, **kwargs)
            assert memory(model) == untouched
    assert_array_equal(answers(model), before)
    expected = answers(update(fitted(estimator), news, y))
    assert_array_equal(answers(update(model, news, y)), expected)


@cache
def _takes_a_lock(filename, line):
    return TAKES_A_LOCK.match(linecache.getline(filename, line)) is not None


@contextmanager
def interrupted(at_line):
    """Raise KeyboardInterrupt as the n-th line of the package is about to run; count lines.

    Lines that take or release a lock are not struck: Python calls a lock's own methods, which
    are written in C, without looking at signals in between.
    """
    lines = []

    def local(frame, event, arg):
        if event == "line":
            code, line = frame.f_code, frame.f_lineno
            if not _takes_a_lock(code.co_filename, line):
                lines.append((code.co_name, line, code.co_filename))
                if len(lines) == at_line:
                    raise KeyboardInterrupt
        return local

    def everywhere(frame, event, arg):
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # a finalizer that runs at any time would be counted
    sys.settrace(everywhere)
    try:
        yield lines
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()


def check_killed_leaves_no_trace(estimator):
    """Whatever line Ctrl-C strikes, the call has happened whole or not at all."""
    _kill(estimator, make_news(), n_points=40)


def check_killed_on_known_ids_leaves_no_trace(estimator):
    """Nor where no table grows, and what is learned is written over what was known."""
    X, y = make_log(60)
    _kill(estimator, (X + np.array([0, 0, 366 * DAY]), y), n_points=15)


def _kill(estimator, news, n_points, learn=update):
    if hasattr(type(estimator), "net_"):
        n_points = (n_points + 1) // 2  # each takes long, and configurations share most lines
    model = fitted(estimator)
    pickled, state, before = pickle.dumps(model), model._model.state(), answers(model)
    learn(model, *news)  # what is computed once a process is known from here on
    model = pickle.loads(pickled)
    with interrupted(at_line=None) as lines:
        learn(model, *news)
    learned, after = model._model.state(), answers(model)
    assert (after != before).any()
    n_missed = 0
    for number, point in enumerate(_moments(lines, n_points)):
        model = pickle.loads(pickled)
        with suppress(KeyboardInterrupt), interrupted(point) as run:
            learn(model, *news)
        n_missed += len(run) < point  # a run may be a few lines shorter, by chance
        assert n_missed <= 2
        try:
            enabled = torch.is_grad_enabled()
            torch.set_grad_enabled(True)  # for the tests that follow
            assert enabled, "gradients are off"
            depth = torch.autocast_increment_nesting() - 1
            torch.autocast_decrement_nesting()
            assert depth == 0, "autocast is on"
            if _is_same(model._model.state(), learned):
                continue  # the work was done; only the return was struck
            assert_same(model._model.state(), state, "state")
            if number % 10 == 0:  # equal states answer and learn alike; see it now and then
                with ThreadPoolExecutor(1) as other:  # it would wait for a lock that was kept
                    assert_array_equal(other.submit(answers, model).result(), before)
                assert_array_equal(answers(learn(model, *news)), after)
        except Exception as error:
            place = "{} (line {} of {})".format(*lines[point - 1])
            raise AssertionError(f"killed in {place}: {error}") from error


def _is_same(state, other):
    """Whether two states are equal to the last bit."""
    try:
        assert_same(state, other, "state")
    except AssertionError:
        return False
    return True


def _moments(lines, n_points):
    """When to strike, counted from 1: at different lines, each in any of its runs, and last."""
    runs = np.random.default_rng(0).permutation(len(lines))
    _, first = np.unique(np.array([str(lines[run]) for run in runs]), return_index=True)
    moments = np.sort(runs[first])
    chosen = np.linspace(0, len(moments) - 1, n_points - 1).astype(int)
    return np.unique([*moments[chosen], len(lines) - 1]) + 1


def recommender_update_checks():
    """Every check of this file, in order."""
    return [f for name, f in globals().items() if name.startswith("check_")]
