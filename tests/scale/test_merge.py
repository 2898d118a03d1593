"""Models of parts, merged, equal one fit on all parts, or the refusal says why not."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import sklearn_recft
from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    EASERecommender,
    HabitRecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RP3BetaRecommender,
    SequentialRulesRecommender,
)
from sklearn_recft.base import RecommenderMixin, recommender_tags
from sklearn_recft.datasets import make_interactions
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.scale import fit_partitions, merge

ANY = [
    PopularityRecommender(),
    PopularityRecommender(half_life=30),
    PopularityRecommender(window=60, half_life=30),
    BiasRecommender(),
    ItemKNNRecommender(n_neighbors=5),
    ItemKNNRecommender(similarity="cosine", half_life=20),
    EASERecommender(half_life=20),
    ALSRecommender(n_factors=4, max_epochs=2, random_state=0),
    RP3BetaRecommender(half_life=30, decay_floor=0.1),
]
BY_USERS = [
    EASERecommender(history_half_life=3, half_life=90),
    HabitRecommender(half_life=50),
    SequentialRulesRecommender(half_life=60, gap_half_life=2, max_history=30),
]


@pytest.fixture(scope="module")
def log():
    X, y = make_interactions(40, 30, 900, random_state=0, return_X_y=True)
    return X, np.round(y)


def of_random_users(X, rng):
    return rng.integers(3, size=X[:, 0].max() + 1)[X[:, 0]]


def of_periods(X, rng):
    return np.searchsorted(np.sort(rng.choice(len(X), 2, replace=False)), np.arange(len(X)))


def of_random_rows(X, rng):
    return rng.integers(3, size=len(X))


CASES = [(e, split) for split in (of_periods, of_random_rows) for e in ANY]
CASES += [(e, of_random_users) for e in ANY + BY_USERS]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("estimator", "split"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_merged_parts_equal_one_fit(log, estimator, split, seed):
    X, y = log
    part = split(X, np.random.default_rng(seed))
    rows = [np.flatnonzero(part == k) for k in range(3)]
    y = None if seed else y
    given = [(X[r], None if y is None else y[r]) for r in rows if len(r)]
    models = [clone(estimator).fit(*each) for each in given]
    before = [pickle.dumps(model) for model in models]
    merged = merge(models)
    assert [pickle.dumps(model) for model in models] == before
    order = np.concatenate(rows)
    whole = clone(estimator).fit(X[order], None if y is None else y[order])
    assert_same(merged, whole, X)
    # and go on equally
    news = np.add(X[:50], [0, 3, 40_000_000])
    for model in (merged, whole):
        model.partial_fit(news, None if y is None else y[:50]).forget([3, 5])
    assert_same(merged, whole, X)


def assert_same(merged, whole, X):
    assert_array_equal(merged.user_ids_, whole.user_ids_)
    assert_array_equal(merged.item_ids_, whole.item_ids_)
    assert_allclose(merged.predict(X), whole.predict(X), rtol=1e-10, atol=1e-10)
    users = whole.user_ids_
    found, expected = (m.recommend(users, on_missing="pad")[1] for m in (merged, whole))
    assert_allclose(found, expected, rtol=1e-6, atol=1e-10)  # scores are computed in float32


@pytest.mark.parametrize("estimator", BY_USERS, ids=str)
def test_a_user_in_two_parts_is_refused_where_order_counts(log, estimator):
    X, y = log
    one, other = (clone(estimator).fit(X[rows], y[rows]) for rows in (slice(400), slice(400, None)))
    before = pickle.dumps(one), pickle.dumps(other)
    with pytest.raises(ValueError, match="split the log by users"):
        merge([one, other])
    assert (pickle.dumps(one), pickle.dumps(other)) == before


def test_rows_without_times_are_baskets_of_their_own(log):
    X = log[0][:, :2]
    first = X[:, 0] < 20
    parts = [(X[first],), (X[~first],)]
    merged = fit_partitions(HabitRecommender(), parts)
    whole = HabitRecommender().fit(np.concatenate([X[first], X[~first]]))
    for model in (merged, whole):
        model.partial_fit(X[:100])
    assert_array_equal(merged.predict(X), whole.predict(X))
    timed = HabitRecommender().fit(log[0][~first])
    with pytest.raises(ValueError, match="timestamps or both without"):
        merge([HabitRecommender().fit(X[first]), timed])


def test_a_merge_that_fails_leaves_the_model_as_it_was(log, monkeypatch):
    X, y = log
    for estimator in (HabitRecommender(), BiasRecommender(), EASERecommender()):
        first = X[:, 0] < 20
        one, other = (clone(estimator).fit(X[rows], y[rows]) for rows in (first, ~first))
        bad = clone(estimator).fit(X)  # without y
        before = pickle.dumps(one)
        with pytest.raises(ValueError, match="merge"):
            one.__recommender_model__().merge(
                other.__recommender_model__(), bad.__recommender_model__()
            )
        assert pickle.dumps(one) == before


def other_recommenders():
    found = (getattr(sklearn_recft, name) for name in sklearn_recft.__all__)
    return [c for c in found if isinstance(c, type) and issubclass(c, RecommenderMixin)]


def test_recommenders_that_cannot_be_merged_say_so_before_any_fit(log):
    refused = set()
    for cls in other_recommenders():
        required = [[("popularity", PopularityRecommender())]]
        estimator = cls(*required * (cls.__name__ == "AdaptiveRecommender"))
        if not recommender_tags(estimator).merges:
            with pytest.raises(ValueError, match=r"cannot be merged.*fit_stream"):
                fit_partitions(estimator, [log])
            refused.add(cls.__name__)
    assert len(refused) == len(other_recommenders()) - len(
        {type(e).__name__ for e in ANY + BY_USERS}
    )


def test_what_does_not_belong_together_is_refused(log):
    X, y = log
    ease = EASERecommender(reg=3.0).fit(X, y)
    with pytest.raises(ValueError, match=r"differ in reg \(reg: 3.0 and 4.0\)"):
        merge([ease, EASERecommender(reg=4.0).fit(X, y)])
    with pytest.raises(ValueError, match="feedback or both without"):
        merge([ease, EASERecommender(reg=3.0).fit(X)])
    with pytest.raises(TypeError, match="EASERecommender, PopularityRecommender"):
        merge([ease, PopularityRecommender().fit(X, y)])
    with pytest.raises(TypeError, match="last steps"):
        merge([make_recommender_pipeline(EASERecommender()).fit(X, y)])
    with pytest.raises(TypeError, match="transform the parts first"):
        fit_partitions(make_recommender_pipeline(EASERecommender()), [log])
    with pytest.raises(NotFittedError):
        merge([ease, EASERecommender(reg=3.0)])
    with pytest.raises(ValueError, match="at least one fitted"):
        merge([])
    with pytest.raises(ValueError, match="given twice"):
        merge([ease, ease])
    with pytest.raises(TypeError, match="recommenders is a EASERecommender; give a list"):
        merge(ease)
    with pytest.raises(TypeError, match=r"part 1 is a ndarray; give a tuple"):
        fit_partitions(EASERecommender(), [(X, y), X])
    with pytest.raises(ValueError, match=r"part 1: .*X has 900 rows"):
        fit_partitions(EASERecommender(), [(X, y), lambda: (X, y[:5])])
    with pytest.raises(ValueError, match="at least one part"):
        fit_partitions(EASERecommender(), [])
    mf = IncrementalMFRecommender(n_factors=2, max_epochs=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"cannot be merged.*order of events"):
        merge([mf, pickle.loads(pickle.dumps(mf))])
    assert merge([mf]).predict(X).tolist() == mf.predict(X).tolist()  # one is a copy


def test_parts_may_be_read_in_the_workers(log, tmp_path):
    X, y = log
    for k in range(2):
        np.savez(tmp_path / f"{k}.npz", X=X[k::2], y=y[k::2])
    parts = [Part(tmp_path / f"{k}.npz") for k in range(2)]
    merged = fit_partitions(EASERecommender(), parts)
    order = np.r_[0 : len(X) : 2, 1 : len(X) : 2]
    assert_same(merged, EASERecommender().fit(X[order], y[order]), X)


class Part:
    """A part of a log in a file."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        with np.load(self.path) as arrays:
            return arrays["X"], arrays["y"]


def test_a_table_or_a_recommender_alone_is_refused_with_the_fix():
    X = np.array([[1, 2], [3, 4]])
    with pytest.raises(TypeError, match="part 0 is a ndarray; give a tuple"):
        fit_partitions(PopularityRecommender(), [X, X])
    with pytest.raises(TypeError, match="give a list of fitted recommenders"):
        merge(PopularityRecommender().fit(X))
