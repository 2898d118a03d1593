"""What recommenders share: ids, checks, `recommend` against a sort of all scores, and `forget`."""

import copy
import pickle
from dataclasses import dataclass
from functools import partial
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from sklearn_recft import (
    EASERecommender,
    FineTuning,
    IncrementalMFRecommender,
    PopularityRecommender,
    ranking,
)
from sklearn_recft.base import RecommenderMixin
from sklearn_recft.datasets import make_interactions
from sklearn_recft.lists import _eligible
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit
from sklearn_recft.models import FittedModel
from sklearn_recft.pipeline import RecommenderPipeline
from sklearn_recft.vocabulary import Vocabulary
from tests.test_ranking import sorted_whole


@dataclass(frozen=True)
class TableSettings:
    """Scores are given: a row per known user, the last one for whoever is unknown."""

    scores: np.ndarray


class TableModel(FittedModel):
    """Answers from a table of scores, and remembers ids and seen items alone."""

    kind = "Table"

    def _learn(self, events, undo, call):
        return np.empty(0)

    def tile_scorer(self, users, columns, queries):
        assert len(queries) == len(users)
        scores = self.settings.scores

        def score(r0, r1, c0, c1, out):
            out[:] = scores[users[r0:r1]][:, columns[c0:c1]]

        return score


class TableRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommends by given scores."""

    _FIXED = ("label",)

    def __init__(self, scores=None, n_jobs=None, label=None):
        self.scores = scores
        self.n_jobs = n_jobs
        self.label = label

    def fit(self, X, y=None, sample_weight=None):
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        self._update(X, y, sample_weight)
        return self

    def _settings(self):
        return TableSettings(self.scores)

    def _make_model(self, rows):
        return TableModel(rows, self._settings())


# -------------------------------------------------------------------------- recommend

N_USERS, N_ITEMS = 30, 25


@pytest.fixture
def fitted():
    """A recommender with tied scores and, for each user, a few seen items."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (N_USERS + 1, N_ITEMS)).astype(np.float32)
    users, items = np.arange(N_USERS), np.arange(N_ITEMS)
    first = np.column_stack([np.resize(users, 150), rng.integers(0, N_ITEMS, 150)])
    every = np.column_stack([np.resize(users, N_ITEMS), items])  # in catalogue order
    every[:, 0] = 0
    model = TableRecommender(scores).fit(np.vstack([every[:20], first]))
    return model.partial_fit([[1, item] for item in items])


def seen_by(model, user):
    code = model.user_ids_.tolist().index(user)
    return model._model.seen.items_of(code)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("block", [4, 16_384])
def test_recommend_is_a_sort_of_what_is_unseen(monkeypatch, fitted, n_jobs, block):
    monkeypatch.setattr(_eligible, "_QUERY_BLOCK", block)
    monkeypatch.setattr(ranking, "_TILE_ROWS", 3)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", 4)
    fitted.set_params(n_jobs=n_jobs)
    asked = [5, 999, *range(2, N_USERS), 5, "nobody"]
    codes = fitted._model.users.encode(asked)
    hidden = [fitted._model.seen.items_of(code) if code >= 0 else [] for code in codes]
    scores = fitted.scores[codes]
    for exclude, gone in ((True, hidden), (False, ())):
        items, found = fitted.recommend(asked, n_recommendations=6, exclude_seen=exclude)
        columns, expected = sorted_whole(scores, 6, gone)
        assert items.tolist() == fitted.item_ids_[columns].tolist()
        assert found.tolist() == expected.tolist()
        assert found.dtype == np.float64
        assert items.dtype == fitted.item_ids_.dtype


def test_recommend_one_is_recommend_all(fitted):
    asked = np.arange(2, N_USERS)
    items, scores = fitted.recommend(asked, n_recommendations=5)
    for row, user in enumerate(asked):
        alone = fitted.recommend([user], n_recommendations=5)
        assert alone[0][0].tolist() == items[row].tolist()
        assert alone[1][0].tolist() == scores[row].tolist()


def test_candidates_are_a_set_in_catalogue_order(fitted):
    fitted.scores[:] = 1
    candidates = [9, 3, 3, 14, 9]
    items, _ = fitted.recommend([7], n_recommendations=3, candidates=candidates, exclude_seen=False)
    assert items.tolist() == [[one for one in fitted.item_ids_ if one in candidates]]
    unseen = [item for item in range(N_ITEMS) if item not in fitted.item_ids_[seen_by(fitted, 7)]]
    items, _ = fitted.recommend([7], n_recommendations=2, candidates=unseen[:2])
    assert set(items[0].tolist()) == set(unseen[:2])


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("3", TypeError), (None, TypeError)],
)
def test_a_list_has_at_least_one_place(fitted, n, error):
    with pytest.raises(error, match="n_recommendations"):
        fitted.recommend([2], n_recommendations=n)
    assert fitted.recommend([2], n_recommendations=np.int32(1))[0].shape == (1, 1)


def test_too_few_eligible_items_are_counted(monkeypatch, fitted):
    left = N_ITEMS - len(seen_by(fitted, 3))
    fitted.recommend([3], n_recommendations=left)
    message = f"user 3 has only {left} eligible items; ask for fewer"
    monkeypatch.setattr(_eligible, "_QUERY_BLOCK", 2)
    with pytest.raises(ValueError, match=message):
        fitted.recommend([999, 999, 999, 3], n_recommendations=left + 1)
    with pytest.raises(ValueError, match="user 1 has only 0 eligible items"):
        fitted.recommend([2, 1], n_recommendations=1)
    with pytest.raises(ValueError, match="has only 2 eligible items"):
        fitted.recommend([2], n_recommendations=3, candidates=[4, 5], exclude_seen=False)
    with pytest.raises(ValueError, match=f"has only {N_ITEMS} eligible items"):
        fitted.recommend([2], n_recommendations=N_ITEMS + 1, exclude_seen=False)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_scores_without_an_order_are_refused():
    model = PopularityRecommender().fit([["a", "x"], ["b", "y"]])
    model._model.popularity *= -1e39  # -inf in float32
    with pytest.raises(ValueError, match="The scores of 2 lists are NaN or beyond"):
        model.recommend(["a", "b"], n_recommendations=1)


def test_an_untamed_learning_rate_is_an_error_and_fits_nothing():
    X, y = make_interactions(20, 12, 300, random_state=0, return_X_y=True)
    model = IncrementalMFRecommender(n_factors=2, learning_rate=5.0, random_state=0)
    with pytest.raises(ValueError, match=r"diverged.*Lower the learning rate, or scale 'y'"):
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_an_unknown_candidate_is_named(fitted):
    with pytest.raises(ValueError, match="candidates: 2 of 3 items are unknown, the first is 77;"):
        fitted.recommend([2], candidates=[4, 77, 78])
    with pytest.raises(ValueError, match="empty"):
        fitted.recommend([2], candidates=[])


def test_recommend_changes_nothing(fitted):
    before = pickle.dumps(fitted)
    fitted.recommend([2, 999], n_recommendations=2, candidates=list(range(20)), exclude_seen=False)
    with pytest.raises(ValueError, match="eligible"):
        fitted.recommend([1], n_recommendations=2)
    assert pickle.dumps(fitted) == before


# --------------------------------------------------------------- what an estimator knows


def test_nothing_is_known_before_fit():
    model = TableRecommender()
    for name in ("user_ids_", "item_ids_", "n_users_", "n_items_"):
        assert not hasattr(model, name)
    with pytest.raises(NotFittedError):
        model.recommend([1])


def test_ids_are_known_in_the_order_they_were_met():
    model = TableRecommender().fit([["b", 3], ["a", 1], ["b", 2]])
    assert model.user_ids_.tolist() == ["b", "a"]
    assert model.item_ids_.tolist() == [3, 1, 2]
    model.partial_fit([["c", 1], ["a", 9]])
    assert model.user_ids_.tolist() == ["b", "a", "c"]
    assert model.item_ids_.tolist() == [3, 1, 2, 9]
    assert (model.n_users_, model.n_items_) == (3, 4)
    assert model.item_ids_[model._model.seen.items_of(1)].tolist() == [1, 9]


def test_feedback_once_given_is_always_given():
    X = [["b", 3], ["a", 1]]
    with pytest.raises(ValueError, match="fit was called with y, so later calls must pass y"):
        TableRecommender().fit(X, [1, 2]).partial_fit(X)
    with pytest.raises(ValueError, match="fit was called without y, so later calls must omit y"):
        TableRecommender().fit(X).partial_fit(X, [1, 2])


def test_a_refused_fit_leaves_what_was_known():
    model = TableRecommender().fit(pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4]}))
    before = pickle.dumps(model)
    for X, y in (([[1, np.nan]], None), ([[1, 2]], [np.inf]), ([[1]], None)):
        with pytest.raises(ValueError, match=r"rows are|feature\(s\)"):
            model.fit(X, y)
        assert pickle.dumps(model) == before


# ------------------------------------------------------------------------ fixed parameters


def test_the_error_of_a_changed_object_names_what_changed():
    model = TableRecommender(np.ones((3, 3)), label=FineTuning(update_rate=0.5, patience=1))
    model = model.fit([["b", 3], ["a", 1]]).set_params(label=FineTuning(patience=1))
    with pytest.raises(ValueError, match=r"\(fit had \{'update_rate': 0.5\}\)"):
        model.partial_fit([["c", 1]])


def test_a_fixed_parameter_that_was_changed_is_refused_by_updates_alone():
    model = TableRecommender(np.ones((3, 3)), label=1).fit([["b", 3], ["a", 1]])
    before = pickle.dumps(model._model)
    model.set_params(label=2)
    with pytest.raises(ValueError, match=r"label=2 was set after fit.*fit had 1.*call fit"):
        model.partial_fit([["c", 1]])
    assert pickle.dumps(model._model) == before
    assert model.recommend(["b"], n_recommendations=1)[0].tolist() == [[1]]
    model.set_params(label=1).partial_fit([["c", 1]])
    assert model.n_users_ == 3
    assert model.set_params(label=2).fit([["z", 1]]).n_users_ == 1


def test_arrays_as_parameters_are_compared_by_value():
    X = [["b", 3], ["a", 1]]
    for given in (np.array([3.0, 30]), [3.0, 30], {"days": np.array([3.0, 30])}):
        model = TableRecommender(label=given).fit(X).partial_fit(X)
        assert model.set_params(label=copy.deepcopy(given)).partial_fit(X).n_users_ == 2
        changed = given["days"] if isinstance(given, dict) else given
        model = TableRecommender(label=given).fit(X)
        changed[1] = 60  # in place
        with pytest.raises(ValueError, match=r"(?s)label=.*60.* was set after fit"):
            model.partial_fit(X)


def test_an_update_reads_the_parameters_of_now():
    model = TableRecommender(np.zeros((3, 2))).fit([["b", 3], ["a", 1]])
    model.set_params(scores=np.array([[0.0, 1], [1, 0], [0, 1]]))
    assert model.recommend(["x"], n_recommendations=1)[1].tolist() == [[0.0]]
    model.partial_fit([["a", 1]])
    assert model.recommend(["x"], n_recommendations=1)[1].tolist() == [[1.0]]


# ----------------------------------------------------------------------------------- forget


def test_forgotten_users_are_unknown_and_others_keep_what_is_theirs():
    X = [["b", 3], ["a", 1], ["c", 2], ["c", 3]]
    model = TableRecommender(np.zeros((4, 3))).fit(X)
    assert model.forget(["a", "nobody"]) is model
    assert model.user_ids_.tolist() == ["b", "c"]
    assert model.item_ids_.tolist() == [3, 1, 2]
    assert [seen_by(model, user).tolist() for user in ("b", "c")] == [[0], [0, 2]]
    model.partial_fit([["a", 2]])
    assert model.user_ids_.tolist() == ["b", "c", "a"]
    assert seen_by(model, "a").tolist() == [2]


def test_a_fit_drops_the_receipt_of_the_old_model():
    model = TableRecommender(np.zeros((3, 2))).fit([["b", 3], ["a", 1]]).forget(["a"])
    assert model.forget_receipt_.removed == {"users": 1, "seen": 1}
    assert str(model.forget_receipt_).startswith("erased: 1 users, 0 items, at 2")
    assert not hasattr(model.fit([["b", 3]]), "forget_receipt_")


def test_a_forget_that_fails_changes_nothing(monkeypatch):
    model = TableRecommender(np.zeros((3, 2))).fit([["b", 3], ["a", 1]])
    before = pickle.dumps(model)

    def broken(self, users):
        raise RuntimeError("half way")

    with monkeypatch.context() as patch:
        patch.setattr("sklearn_recft.history.SeenItems.forget", broken)
        with pytest.raises(RuntimeError, match="half way"):
            model.forget(["b"])
    assert pickle.dumps(model) == before


def test_first_calls_of_two_threads_both_count(monkeypatch):
    """The second waits for the first, which is a fit, and learns on."""
    model, threads, made = TableRecommender(np.zeros((9, 9))), [], TableRecommender._make_model

    def make_model(self, rows):
        if not threads:
            threads.append(Thread(target=model.partial_fit, args=([["b", 2]],), daemon=True))
            threads[0].start()
            threads[0].join(0.3)
        return made(self, rows)

    monkeypatch.setattr(TableRecommender, "_make_model", make_model)
    model.partial_fit([["a", 1]])
    threads[0].join(30)
    assert model.user_ids_.tolist() == ["a", "b"]


def test_a_fit_beside_forget_is_the_last_word():
    """Forget copies the old model; a fit that ends meanwhile is not undone by the copy."""
    model = TableRecommender(np.zeros((9, 9))).fit([["a", 1], ["b", 2]])

    class Fits(Vocabulary):
        def state(self):
            self.thread = Thread(target=model.fit, args=([["new", 1]],), daemon=True)
            self.thread.start()
            self.thread.join(0.3)
            return super().state()

    fits = model._model.users
    fits.__class__ = Fits
    model.forget(["a"])
    fits.thread.join(30)
    assert model.user_ids_.tolist() == ["new"]


# -------------------------------------------------------------------------------- score


class Meanwhile:
    """An attribute that is copied while another call changes the estimator."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        self.call()
        return int, ()


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps, partial(pickle.dumps, protocol=0)])
def test_a_copy_is_made_while_forget_adds_its_receipt(copied):
    for model in (
        PopularityRecommender(),
        RecommenderPipeline([("list", PopularityRecommender())]),
    ):
        model.fit([["ann", "tea"], ["bob", "rye"]])
        model.passing_ = Meanwhile(partial(model.forget, ["ann"]))
        copied(model)
        assert model.forget_receipt_.level


def test_score_of_a_ranking_model_is_ndcg_of_unseen_items():
    X = make_interactions(60, 40, 1200, random_state=0, return_X_y=True)[0]
    past, later = X[:800], X[800:]
    model, unseen = EASERecommender().fit(past), make_ranking_scorer("ndcg", k=10)
    assert 0 < model.score(later) == unseen(model, later)
    one_repeated = np.vstack([later, past[:1]])
    assert model.score(one_repeated) == unseen(model, one_repeated)
    assert model.score(past) == make_ranking_scorer("ndcg", k=10, exclude_seen=False)(model, past)


def test_a_search_without_scoring_compares_the_score_of_ranking_models():
    X = make_interactions(60, 40, 1200, random_state=0, return_X_y=True)[0]
    given = {"param_grid": {"reg": [1.0, 1000.0]}, "cv": TemporalSplit(2)}
    found = GridSearchCV(EASERecommender(), **given).fit(X)
    expected = GridSearchCV(
        EASERecommender(), **given, scoring=make_ranking_scorer("ndcg", k=10)
    ).fit(X)
    assert_array_equal(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    assert len(set(found.cv_results_["mean_test_score"])) == 2


def test_items_that_are_datetimes_are_candidates_in_any_type():
    days = pd.to_datetime(["2024-05-01", "2024-05-02"]).astype("datetime64[ns]")
    X = pd.DataFrame({"user_id": [True, False], "item_id": days})
    model = TableRecommender(np.array([[0, 1], [0, 1]])).fit(X)
    assert model.user_ids_.tolist() == [True, False]
    assert {type(user) for user in model.user_ids_} == {bool}
    assert model.item_ids_.tolist() == days.to_pydatetime().tolist()
    for candidates in ([days[1]], [days[1].to_numpy()], days[1:], [days[1].to_pydatetime()]):
        found, _ = model.recommend([True], n_recommendations=1, candidates=candidates)
        assert found.tolist() == [[days[1]]]
