"""Predict, score, learn: the order of it, against a loop written out, and what it sums up to."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import BiasRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.metrics import recall_at_k
from sklearn_recft.model_selection import iter_prequential, prequential_score

DAY = 86_400


class Recorder(BaseEstimator):
    """Predicts the mean of what it has learned, and writes down which rows came when.

    The item id of each row is its number, so that rows can be told apart.
    """

    def fit(self, X, y=None, sample_weight=None):
        self.learned_, self.diary_ = {}, getattr(self, "diary_", [])
        return self._learn("fit", X, y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        return self._learn("partial_fit", X, y, sample_weight)

    def _learn(self, verb, X, y, sample_weight):
        rows = np.asarray(X)[:, 1].astype(int).tolist()
        self.diary_.append((verb, rows))
        self.learned_.update(zip(rows, rows if y is None else y, strict=True))
        self.weight_ = sample_weight
        return self

    def predict(self, X):
        self.diary_.append(("predict", np.asarray(X)[:, 1].astype(int).tolist()))
        return np.full(len(X), np.mean(list(self.learned_.values())))


class Compiled(Recorder):
    """The same, a row at a time in one call."""

    def partial_fit_predict(self, X, y=None, sample_weight=None):
        self.passes_ = [*getattr(self, "passes_", []), len(X)]
        self.learned_, self.diary_ = getattr(self, "learned_", {}), getattr(self, "diary_", [])
        predictions = []
        for row in range(len(X)):
            predictions.append(self.predict(X[[row]])[0] if self.learned_ else 0.0)
            self.partial_fit(X[[row]], y[[row]])
        return np.array(predictions)


def table(log):
    return np.array([(user, row, day * DAY) for row, (user, day) in enumerate(log)], dtype=float)


logs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=3, max_size=30)
schedules = st.fixed_dictionaries(
    {
        "cut": st.one_of(
            st.fixed_dictionaries({"chunk_size": st.integers(1, 7)}),
            st.fixed_dictionaries({"period": st.integers(1, 4)}),
        ),
        "warm_up": st.integers(1, 8),
        "label_delay": st.integers(0, 3),
        "learn": st.sampled_from(["partial_fit", "refit", "never"]),
    }
)


def cut_in_chunks(log, order, warm_up, chunk_size=None, period=None):
    rest = order[warm_up:]
    if chunk_size:
        return [rest[j : j + chunk_size] for j in range(0, len(rest), chunk_size)]
    chunks = {}
    for row in rest:
        chunks.setdefault((log[row][1] - log[rest[0]][1]) // period, []).append(row)
    return list(chunks.values())


def reference_diary(log, cut, warm_up, label_delay, learn):
    """What has to happen, in the plainest words: rows by verb, in order."""
    order = sorted(range(len(log)), key=lambda row: (log[row][1], row))
    chunks = cut_in_chunks(log, order, warm_up, **cut)
    clocks = [log[chunk[0]][1] for chunk in chunks] + [log[order[-1]][1]]
    place = {row: j for j, row in enumerate(order)}
    ends = [place[chunk[0]] for chunk in chunks] + [len(order)]
    diary, learned = [], []
    for j, clock in enumerate(clocks):
        # Without a delay rows before this chunk are known; with one, those old enough.
        known = [
            row for row in order[: ends[j]] if not label_delay or log[row][1] + label_delay <= clock
        ]
        new = [row for row in known if row not in learned]
        if j == 0:
            diary.append(("fit", known))
            learned = known
        elif new and learn == "partial_fit":
            diary.append(("partial_fit", new))
            learned = known
        elif new and learn == "refit":
            diary.append(("fit", known))
            learned = known
        if j < len(chunks):
            diary.append(("predict", chunks[j]))
    return diary


@given(log=logs, schedule=schedules)
def test_equals_reference_loop_and_never_looks_ahead(log, schedule):
    cut, options = schedule["cut"], {k: v for k, v in schedule.items() if k != "cut"}
    y = np.arange(len(log)) ** 2 % 7
    model = Recorder()
    if options["warm_up"] >= len(log):
        with pytest.raises(ValueError, match="warm_up"):
            iter_prequential(model, table(log), y, **cut, **options)
        return
    expected = reference_diary(log, cut, **options)
    replay = iter_prequential(model, table(log), y, **cut, **options)
    if not expected[0][1]:
        with pytest.raises(ValueError, match="label before the first chunk"):
            next(replay)
        return
    steps = list(replay)
    assert model.diary_ == expected

    order = sorted(range(len(log)), key=lambda row: (log[row][1], row))
    predicted, learned = set(order[: options["warm_up"]]), set()
    for verb, rows in model.diary_:
        if verb == "predict":
            clock, begin = log[rows[0]][1], order.index(rows[0])
            assert all(order.index(row) < begin for row in learned)
            assert all(log[row][1] + options["label_delay"] <= clock for row in learned)
            assert not predicted & set(rows)
            predicted |= set(rows)
        else:
            assert set(rows) <= predicted
            learned |= set(rows)
    assert [row for step in steps for row in step.rows] == order[options["warm_up"] :]


@given(log=logs, schedule=schedules)
def test_steps_equal_evaluation_by_hand(log, schedule):
    cut, options = schedule["cut"], {k: v for k, v in schedule.items() if k != "cut"}
    y = np.arange(len(log)) ** 2 % 7.0
    if options["warm_up"] >= len(log):
        return
    diary = reference_diary(log, cut, **options)
    if not diary[0][1]:
        return
    steps = iter_prequential(Recorder(), table(log), y, **cut, **options, scoring=("rmse", "mae"))
    learned = []
    for verb, rows in diary:
        if verb != "predict":
            learned = rows if verb == "fit" else learned + rows
            continue
        step = next(steps)
        error = np.mean(y[learned]) - y[rows]
        np.testing.assert_allclose(step.predictions, np.mean(y[learned]))
        assert step.n_rows == len(rows)
        assert step.metrics == pytest.approx(
            {"rmse": np.sqrt(np.mean(error**2)), "mae": np.mean(np.abs(error))}
        )
        known = {log[row][0] for row in learned}
        assert step.n_unknown_users == sum(log[row][0] not in known for row in rows)
        assert step.n_unknown_items == len(rows)
        assert (step.first_timestamp, step.last_timestamp) == (
            log[rows[0]][1] * DAY,
            log[rows[-1]][1] * DAY,
        )
        assert step.predict_seconds >= 0
        assert step.learn_seconds >= 0
    assert next(steps, None) is None


LOG = [(j % 3, j) for j in range(20)]
Y = np.arange(20) % 5 + 1.0


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, np.asarray])
def test_any_table_and_any_row_order(frame):
    shuffled = np.random.default_rng(0).permutation(20)
    X = pd.DataFrame(table(LOG), columns=["user_id", "item_id", "timestamp"]).iloc[shuffled]
    X = X.to_numpy() if frame is np.asarray else frame(X.to_dict("list"))
    result = prequential_score(Recorder(), X, Y[shuffled], warm_up=5, chunk_size=4)
    expected = prequential_score(Recorder(), table(LOG), Y, warm_up=5, chunk_size=4)
    assert result.metrics == expected.metrics
    assert [shuffled[step.rows].tolist() for step in result.steps] == [
        step.rows.tolist() for step in expected.steps
    ]


def test_sum_up_is_over_rows_not_over_steps():
    result = prequential_score(
        DummyRegressor(), table(LOG), Y, warm_up=0.25, chunk_size=10, learn="never"
    )
    assert [step.n_rows for step in result.steps] == [10, 5]
    assert result.metrics["rmse"] == pytest.approx(
        root_mean_squared_error(Y[5:], np.full(15, Y[:5].mean()))
    )
    assert (result.n_rows, result.n_steps, result.n_queries) == (15, 2, 0)
    assert (result.n_unknown_users, result.n_unknown_items) == (0, 15)
    spent = [step.predict_seconds + step.learn_seconds for step in result.steps]
    assert result.seconds_per_step == pytest.approx(np.mean(spent))
    assert result.warm_up_seconds > 0


def test_score_clones_and_iter_does_not():
    X = table(LOG)
    model = Recorder()
    result = prequential_score(model, X, Y, warm_up=5, chunk_size=5)
    assert not hasattr(model, "learned_")
    assert len(result.estimator.learned_) == 20
    list(iter_prequential(model, X, Y, warm_up=5, chunk_size=5))
    assert model.learned_ == result.estimator.learned_


def test_a_fitted_estimator_goes_on_from_where_it_is():
    X = table(LOG)
    model = PopularityRecommender().fit(X[:8])
    steps = list(iter_prequential(model, X[8:], chunk_size=6, scoring=["recall"]))
    assert [step.n_unknown_users for step in steps] == [0, 0]
    assert [step.n_unknown_items for step in steps] == [6, 6]
    assert model.n_items_ == 20


def test_without_timestamps_rows_are_in_order():
    result = prequential_score(Recorder(), table(LOG)[:, :2], Y, warm_up=5, chunk_size=5)
    assert np.concatenate([step.rows for step in result.steps]).tolist() == list(range(5, 20))
    assert math.isnan(result.steps[0].first_timestamp)


def test_compiled_pass_equals_row_by_row():
    X, slow, fast = table(LOG), Recorder(), Compiled()
    by_row = list(iter_prequential(slow, X, Y, warm_up=4, chunk_size=1))
    steps = list(iter_prequential(fast, X, Y, warm_up=4, chunk_size=1, report_every=6))
    assert fast.passes_ == [6, 6, 4]
    assert fast.diary_ == slow.diary_
    np.testing.assert_array_equal(
        np.concatenate([step.predictions for step in steps]),
        np.concatenate([step.predictions for step in by_row]),
    )
    for name in ("n_unknown_users", "n_unknown_items"):
        assert sum(getattr(s, name) for s in steps) == sum(getattr(s, name) for s in by_row)
    assert steps[0].metrics["rmse"] == pytest.approx(
        root_mean_squared_error(Y[4:10], steps[0].predictions)
    )


def test_compiled_pass_may_start_from_nothing():
    result = prequential_score(Compiled(), table(LOG), Y, chunk_size=1)
    assert result.n_rows == 20
    assert result.n_unknown_users == 3


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 2},
        {"chunk_size": 1, "learn": "refit"},
        {"chunk_size": 1, "learn": "never"},
    ],
)
def test_compiled_pass_only_where_it_means_the_same(options):
    result = prequential_score(Compiled(), table(LOG), Y, warm_up=4, **options)
    assert not hasattr(result.estimator, "passes_")


def test_single_rows_are_followed_even_when_labels_come_late():
    options = {"warm_up": 4, "label_delay": 1, "chunk_size": 1}
    fast = prequential_score(Compiled(), table(LOG), Y, **options)
    slow = prequential_score(Recorder(), table(LOG), Y, **options)
    assert set(fast.estimator.passes_) == {1}
    assert fast.metrics == slow.metrics


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("half_life", [None, 3])
def test_lists_of_the_softmax_are_made_in_the_compiled_pass(exclude_seen, half_life, monkeypatch):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 12, 400), rng.geometric(0.15, 400), np.arange(400) * 9e3])
    y = np.where(rng.random(400) < 0.8, 1, 0)
    model = IncrementalMFRecommender(4, "softmax", half_life=half_life, random_state=0)
    options = {"warm_up": 150, "chunk_size": 1, "scoring": ["recall", "mrr"], "k": 5}
    options["exclude_seen"] = exclude_seen
    slow = prequential_score(model, X, y, sample_weight=np.ones(400), **options)
    monkeypatch.setattr(IncrementalMFRecommender, "recommend", None)
    fast = prequential_score(model, X, y, report_every=60, **options)
    assert (slow.n_steps, fast.n_steps) == (250, 5)
    assert fast.metrics == pytest.approx(slow.metrics)
    assert 0 < fast.metrics["recall@5"] < 1
    for name in ("n_queries", "n_unknown_users", "n_unknown_items"):
        assert fast[name] == slow[name]


def test_single_rows_are_followed_under_top_k_metrics():
    class Follower(PopularityRecommender):
        def partial_fit_predict(self, X, y=None, sample_weight=None):
            self.n_followed_ = getattr(self, "n_followed_", 0) + len(X)
            self.partial_fit(X, y, sample_weight)
            return np.ones(len(X))

    X, _ = purchases()
    result = prequential_score(
        Follower(), X, warm_up=50, chunk_size=1, scoring=["recall"], exclude_seen=False
    )
    assert result.estimator.n_followed_ == 150


def purchases():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 6, 200), rng.integers(0, 15, 200), np.arange(200) * DAY])
    return X, rng.integers(0, 2, 200)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("with_y", [True, False])
def test_lists_are_made_as_the_chunk_begins_one_per_user(exclude_seen, with_y):
    X, y = purchases()
    y = y if with_y else None
    result = prequential_score(
        PopularityRecommender(), X, y, warm_up=20, period=30, k=3,
        scoring=("recall",), exclude_seen=exclude_seen,
    )  # fmt: skip
    assert [step.n_rows for step in result.steps] == [30] * 6
    total, n_queries = 0.0, 0
    for step in result.steps:
        model = PopularityRecommender().fit(
            X[: step.rows[0]], None if y is None else y[: step.rows[0]]
        )
        relevant = {}
        for row in step.rows:
            if y is None or y[row]:
                relevant.setdefault(X[row, 0], set()).add(X[row, 1])
        lists = []
        for user in relevant:
            seen = set(X[: step.rows[0]][X[: step.rows[0], 0] == user][:, 1].tolist())
            eligible = model.n_items_ - (len(seen) if exclude_seen else 0)
            lists.append(
                model.recommend(
                    [user], n_recommendations=min(3, eligible), exclude_seen=exclude_seen
                )[0][0].tolist()
                if eligible
                else []
            )
        recall = recall_at_k(list(relevant.values()), lists, k=3)
        assert step.metrics == {"recall@3": pytest.approx(recall)}
        assert step.n_queries == len(relevant)
        assert step.predictions is None
        total, n_queries = total + recall * len(relevant), n_queries + len(relevant)
    assert result.metrics["recall@3"] == pytest.approx(total / n_queries)


def test_chunks_with_nothing_relevant_are_left_out():
    X, y = purchases()
    y[50:] = 0
    options = {"warm_up": 20, "chunk_size": 30, "scoring": ("ndcg", "mae"), "k": 3}
    result = prequential_score(PopularityRecommender(), X, y, **options)
    assert math.isnan(result.steps[1].metrics["ndcg@3"])
    assert result.steps[1].n_queries == 0
    assert result.metrics["ndcg@3"] == result.steps[0].metrics["ndcg@3"]
    y[:] = 0
    result = prequential_score(PopularityRecommender(), X, y, **options)
    assert math.isnan(result.metrics["ndcg@3"])


def test_probabilities_are_judged_where_there_are_any():
    X, y = purchases()
    result = prequential_score(
        DummyClassifier(strategy="prior"), X, y, warm_up=0.5, learn="never",
        scoring=("log_loss", "auc", "rmse"),
    )  # fmt: skip
    share = y[:100].mean()
    assert result.metrics == pytest.approx(
        {
            "log_loss": log_loss(y[100:], np.full(100, share)),
            "auc": 0.5,
            "rmse": np.sqrt(np.mean((share - y[100:]) ** 2)),
        }
    )


def test_static_incremental_and_refit_in_one_harness():
    X, _ = purchases()
    y = X[:, 1] % 4 + np.where(np.arange(200) < 100, 0.0, 2.0)  # everyone changes their mind
    rmse = {
        learn: prequential_score(
            BiasRecommender(), X, y, warm_up=0.5, chunk_size=10, learn=learn
        ).metrics["rmse"]
        for learn in ("never", "partial_fit", "refit")
    }
    assert rmse["partial_fit"] < 0.8 * rmse["never"]
    assert rmse["refit"] < 0.8 * rmse["never"]


def test_a_pipeline_can_be_refitted():
    X, y = purchases()
    pipeline = make_pipeline(FunctionTransformer(), PopularityRecommender())
    options = {"warm_up": 50, "chunk_size": 50, "learn": "refit", "scoring": ("ndcg", "rmse")}
    expected = prequential_score(PopularityRecommender(), X, y, **options)
    assert prequential_score(pipeline, X, y, **options).metrics == expected.metrics


def test_weights_reach_learning():
    weight = np.arange(1.0, 21.0)
    result = prequential_score(
        Recorder(), table(LOG)[::-1], Y, warm_up=5, chunk_size=15, sample_weight=weight[::-1]
    )
    np.testing.assert_array_equal(result.estimator.weight_, weight[5:])


def test_progress_bar_counts_rows(capsys):
    prequential_score(Recorder(), table(LOG), Y, warm_up=5, chunk_size=5, verbose=1)
    assert "15/15" in capsys.readouterr().err
    prequential_score(Recorder(), table(LOG), Y, warm_up=5, chunk_size=5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scoring": ("rsme",)}, "scoring must be among"),
        ({"y": None}, "rmse needs y"),
        ({"k": 0}, "k must be at least 1"),
        ({"learn": "always"}, "learn must be"),
        ({"label_delay": -1}, "label_delay must be at least 0"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"period": 0}, "period must be positive"),
        ({"chunk_size": 5, "period": 5}, "not both"),
        ({"warm_up": 20}, "warm_up=20 means 20 of 20 rows"),
        ({"warm_up": 1.0}, "warm_up=1.0 means 20 of 20 rows"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"warm_up": 0}, "nothing to predict the first chunk from"),
        ({"warm_up": 0, "learn": "refit"}, "give warm_up"),
        ({"X": table(LOG)[:, :2], "period": 1}, "need X to have a `timestamp`"),
        ({"X": table(LOG)[:, :2], "label_delay": 1}, "need X to have a `timestamp`"),
        ({"y": Y[:-1]}, "inconsistent"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_learned(options, match):
    model = Recorder()
    with pytest.raises(ValueError, match=match):
        iter_prequential(model, **{"X": table(LOG), "y": Y, "warm_up": 5} | options)
    assert not hasattr(model, "diary_")


class Says(BaseEstimator):
    """Predicts what it is told to."""

    def __init__(self, values=()):
        self.values = values

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.asarray(self.values, float)


def score_of(values, y, metric):
    X = [["u", "i", row] for row in range(1 + len(y))]
    options = {"warm_up": 1, "learn": "never", "scoring": (metric,)}
    result = prequential_score(Says(values), X, [1, *y], **options)
    (step,) = result.steps
    np.testing.assert_equal(step.metrics[metric], result.metrics[metric])
    return result.metrics[metric]


def test_log_loss_of_what_is_no_probability_is_that_of_clipped_predictions():
    y = [0, 1, 1, 0]
    assert score_of([0.1, 0.9, 1.0, 0.0], y, "log_loss") == log_loss(y, [0.1, 0.9, 1.0, 0.0])
    clipped = [1e-6, 1 - 1e-6, 1e-6, 0.25]
    assert score_of([-0.5, 1.5, 0.0, 0.25], y, "log_loss") == pytest.approx(log_loss(y, clipped))
    assert score_of([-0.5, 1.5, 0.0, 0.25], y, "auc") == 0.75


@pytest.mark.parametrize("metric", ["rmse", "mae", "log_loss", "auc"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_metric_of_predictions_that_are_no_numbers_is_nan(metric, bad):
    assert math.isnan(score_of([0.5, bad], [0, 1], metric))


@pytest.mark.parametrize("metric", ["log_loss", "auc"])
def test_metrics_of_clicks_need_clicks(metric):
    with pytest.raises(ValueError, match=f"{metric} needs feedback of 0 and 1; 1 of 2 rows"):
        score_of([0.5, 0.5], [3, 1], metric)


@pytest.mark.parametrize("only", [0, 1])
def test_a_classifier_of_one_class_is_sure_of_it(only):
    X, y = [["u", "i", row] for row in range(4)], [only, only, 1, 0]
    options = {"warm_up": 2, "learn": "never", "scoring": ("mae",)}
    assert prequential_score(DummyClassifier(), X, y, **options).metrics["mae"] == 0.5
    assert prequential_score(DummyClassifier(), X[:3], y[:3], **options).metrics["mae"] == 1 - only


def test_labels_cannot_be_ranked():
    X = [["u", "i", row] for row in range(4)]
    with pytest.raises(ValueError, match="y: not numeric"):
        prequential_score(
            PopularityRecommender(), X, ["click", "skip"] * 2, warm_up=2, learn="never",
            scoring=("ndcg",),
        )  # fmt: skip
