"""`distill`: the student learns predictions, and nothing of the drawn pairs is left but factors."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from sklearn_recft import (
    BayesianMFClassifier,
    BayesianMFRecommender,
    BiasRecommender,
    DecayBertRecommender,
    EASERecommender,
    IncrementalMFRecommender,
)
from sklearn_recft.compression import distill
from sklearn_recft.datasets import make_interactions
from sklearn_recft.tables import stacked, with_items_of

X, Y = make_interactions(40, 30, 600, random_state=0, return_X_y=True)
LOG = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])
STUDENT = IncrementalMFRecommender(n_factors=4, random_state=0)


@pytest.fixture(scope="module")
def teacher():
    """A larger model of the ratings."""
    return BayesianMFRecommender(n_factors=8, random_state=0).fit(LOG, Y)


def test_the_student_predicts_as_the_teacher_does_for_all_pairs(teacher):
    small = distill(teacher, STUDENT, LOG, random_state=0)
    pairs = pd.DataFrame([(u, i) for u in range(40) for i in range(30)], columns=LOG.columns[:2])
    pairs["timestamp"] = 0
    expected, alone = teacher.predict(pairs), STUDENT.fit(LOG, Y).predict(pairs)
    error = np.mean((small.predict(pairs) - expected) ** 2)
    assert error < 0.3 * np.mean((alone - expected) ** 2)
    without = distill(teacher, STUDENT, LOG, n_pairs=0).predict(pairs)
    assert error < np.mean((without - expected) ** 2)


def test_seen_items_ids_and_counts_are_those_of_the_rows(teacher):
    small, alone = distill(teacher, STUDENT, LOG, random_state=0), STUDENT.fit(LOG, Y)
    assert (small.user_ids_ == alone.user_ids_).all()
    assert (small.item_ids_ == alone.item_ids_).all()
    mine, others = small.__recommender_model__(), alone.__recommender_model__()
    for name, pairs in mine.seen.state().items():
        assert (pairs == others.seen.state()[name]).all()
    for name in ("user_count", "item_count"):
        assert (mine.module.array(name) == others.module.array(name)).all()
    lists, _ = small.recommend([0], n_recommendations=3)
    assert not set(lists[0]) & set(LOG["item_id"][LOG["user_id"] == 0])


def test_the_teacher_and_the_student_given_do_not_change(teacher):
    before, fresh = teacher.predict(LOG), IncrementalMFRecommender(n_factors=4, random_state=0)
    small = distill(teacher, fresh, LOG, random_state=0)
    assert (teacher.predict(LOG) == before).all()
    assert not hasattr(fresh, "n_items_")
    again = distill(teacher, fresh, LOG, random_state=0)
    assert (again.predict(LOG) == small.predict(LOG)).all()
    small.partial_fit(LOG[:5], Y[:5])
    assert np.isfinite(small.predict(LOG)).all()


@pytest.mark.parametrize("settings", [{"solver": "adam", "max_epochs": 1}, {"drift": "follow"}])
def test_other_solvers_are_students_too(teacher, settings):
    student = IncrementalMFRecommender(n_factors=4, random_state=0, **settings)
    assert np.isfinite(distill(teacher, student, LOG, n_pairs=5).predict(LOG)).all()


@pytest.mark.parametrize("library", ["array", "pandas", "polars"])
def test_any_table_and_context_are_read(library):
    log = LOG.assign(hour=np.arange(len(LOG)) % 24.0).set_index(np.arange(len(LOG)) * 3)
    table = {"array": log.to_numpy(), "pandas": log, "polars": pl.from_pandas(log)}[library]
    teacher = BiasRecommender().fit(table, Y)
    small = distill(teacher, STUDENT, table, n_pairs=3, random_state=0)
    assert small.n_features_in_ == 4
    assert hasattr(small, "feature_names_in_") == (library != "array")


def test_probabilities_are_learned_by_the_log_loss():
    liked = (np.median(Y) < Y).astype(int)
    teacher = BayesianMFClassifier(n_factors=4, random_state=0).fit(LOG, liked)
    student = IncrementalMFRecommender(n_factors=4, loss="log_loss", random_state=0)
    small = distill(teacher, student, LOG, random_state=0)
    found, expected = small.predict(LOG), teacher.predict_proba(LOG)[:, 1]
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_pairs_have_texts_of_their_items_and_times_of_their_users():
    table = LOG.assign(text=[f"item {i}" for i in LOG["item_id"]], hour=np.arange(600.0))
    rows, others = np.array([0, 5]), np.array([7, 7])
    for given in (table, pl.from_pandas(table)):
        made = with_items_of(given, rows, others)
        assert list(made["item_id"]) == [LOG["item_id"][7]] * 2
        assert list(made["text"]) == [f"item {LOG['item_id'][7]}"] * 2
        assert list(made["hour"]) == [0.0, 5.0]
        assert list(made["user_id"]) == LOG["user_id"][[0, 5]].tolist()
        assert len(stacked(given, made)) == 602
    assert stacked(X.tolist(), with_items_of(X.tolist(), rows, others)).shape == (602, 3)


def test_what_cannot_be_distilled_is_named(teacher):
    for given, message in (
        ({"student": LinearRegression()}, "student: a LinearRegression cannot learn"),
        ({"student": EASERecommender()}, "student: a EASERecommender cannot learn"),
        ({"teacher": LinearRegression().fit(X, Y)}, "teacher: a LinearRegression is no"),
        ({"teacher": EASERecommender().fit(LOG)}, "this EASERecommender only orders items"),
    ):
        with pytest.raises(TypeError, match=message):
            distill(**{"teacher": teacher, "student": STUDENT, "X": LOG, **given})
    with pytest.raises(NotFittedError):
        distill(BayesianMFRecommender(), STUDENT, LOG)
    for changes, message in (
        ({"n_pairs": -1}, "n_pairs=-1"),
        ({"n_pairs": 1.5}, "n_pairs=1.5"),
        ({"pair_weight": 0}, "pair_weight=0"),
        ({"pair_weight": np.nan}, "pair_weight=nan"),
    ):
        with pytest.raises(ValueError, match=message):
            distill(teacher, STUDENT, LOG, **changes)
    with pytest.raises(ValueError, match="loss='bpr' it learns positives"):
        distill(teacher, IncrementalMFRecommender(loss="bpr"), LOG)
    with pytest.raises(ValueError, match="needs probabilities, but a BayesianMFRecommender"):
        distill(teacher, IncrementalMFRecommender(loss="log_loss"), LOG)
    rated = LOG.assign(stars=Y)
    past = DecayBertRecommender(None, outcome="stars", max_epochs=1, random_state=0)
    past.fit(rated[:60], np.arange(60) % 2)
    with pytest.raises(ValueError, match="past feedback from the column 'stars'"):
        distill(past, STUDENT, rated)


def test_vectors_of_items_are_for_the_teacher_alone():
    vectors = np.random.default_rng(0).normal(size=(30, 3))
    likes = np.greater(Y, np.median(Y)).astype(int)
    items = LOG["item_id"].to_numpy(int)
    log = LOG.assign(embedding=list(vectors[items]))
    options = {"backbone": None, "width": 8, "n_heads": 1, "max_epochs": 1, "random_state": 0}
    known, asked = items < 25, []

    class Spy(DecayBertRecommender):
        def predict_proba(self, X):
            asked.append(X)
            return super().predict_proba(X)

    teacher = Spy(**options).fit(log[known], likes[known])
    assert_equal = np.testing.assert_array_equal
    small = distill(teacher, STUDENT, log, n_pairs=0)
    direct = STUDENT.fit(LOG, teacher.predict_proba(log)[:, 1])
    assert_equal(small.predict(LOG), direct.predict(LOG))
    # Drawn items that the teacher does not know come with their own vectors.
    distill(teacher, STUDENT, log, n_pairs=2, random_state=0)
    pairs = asked[-1]
    assert (pairs["item_id"] >= 25).any()
    assert_equal(np.stack(pairs["embedding"]), vectors[pairs["item_id"].to_numpy(int)])


def test_labels_in_place_of_numbers_are_refused(teacher):
    with pytest.raises(ValueError, match="y: not numeric: 600 of 600 rows are labels"):
        distill(teacher, STUDENT, LOG, np.full(600, "yes"))
