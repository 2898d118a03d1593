"""`AdaptiveRecommender`: what is special to a blend that learns."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import (
    AdaptiveRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import TemporalSplit, iter_prequential
from sklearn_recft.models import (
    PopularityModel,
    _adaptive,
    _adaptive_final,
    _adaptive_parts,
    _adaptive_rows,
    _adaptive_shares,
)
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.vocabulary import IdTypeWarning

DAY = 86400
X = make_interactions(60, 50, 1200, popularity=0.5, random_state=0).data
OLD, NEW = X[:1000], X[1000:]
USERS = np.arange(60)


def members(reg=5.0):
    return [("popular", PopularityRecommender()), ("ease", EASERecommender(reg=reg))]


@pytest.fixture(scope="module")
def pickled():
    return pickle.dumps(AdaptiveRecommender(members()).fit(OLD))


@pytest.fixture
def model(pickled):
    return pickle.loads(pickled)


# ------------------------------------------------------------------------------ lists


def test_one_member_keeps_its_own_order_to_the_last_item():
    own = EASERecommender(reg=5.0).fit(OLD)
    blend = AdaptiveRecommender(members()[1:], context=False, n_candidates=5).fit(OLD)
    n = 50 - max(len(set(OLD[OLD[:, 0] == user, 1])) for user in USERS)
    queries = np.column_stack([USERS, np.full(60, OLD[-1, 2])])
    for k in (3, n):
        expected = own.recommend(queries, n_recommendations=k)[0]
        assert_array_equal(blend.recommend(queries, n_recommendations=k)[0], expected)


def test_equal_members_list_what_one_of_them_lists():
    twice = [("a", EASERecommender(reg=5.0)), ("b", EASERecommender(reg=5.0))]
    blend = AdaptiveRecommender(twice, context=False).fit(OLD)
    weights = blend.weights_["all"]
    assert_allclose(weights["rank of a"], weights["rank of b"])
    assert_allclose(weights["score of a"], weights["score of b"])
    items = blend.recommend(USERS, n_recommendations=5)[0]
    assert_array_equal(
        items, EASERecommender(reg=5.0).fit(OLD).recommend(USERS, n_recommendations=5)[0]
    )


def test_the_order_of_members_means_nothing(model):
    other = AdaptiveRecommender(members()[::-1]).fit(OLD)
    for context, row in model.weights_.items():
        for name, weight in row.items():
            assert_allclose(other.weights_[context][name], weight, atol=1e-6)
    assert_array_equal(other.recommend(USERS)[0], model.recommend(USERS)[0])


def test_a_random_member_changes_little(model):
    noise = IncrementalMFRecommender(n_factors=4, max_epochs=1, learning_rate=1e-9, random_state=0)
    noisy = AdaptiveRecommender([*members(), ("noise", noise)]).fit(OLD)
    quality = [m.partial_fit(NEW).weights_log_["ndcg@10 of the blend"][-1] for m in (noisy, model)]
    log = noisy.weights_log_
    assert log["ndcg@10 of noise"][-1] < 0.8 * log["ndcg@10 of ease"][-1]
    assert quality[0] > 0.93 * quality[1]


def test_repeats_are_ranked_among_the_others_where_users_repeat():
    rng = np.random.default_rng(0)
    favourites = rng.integers(0, 50, (60, 3))  # each user takes three items again and again
    user = rng.integers(0, 60, 1500)
    item = np.where(rng.random(1500) < 0.8, favourites[user, rng.integers(0, 3, 1500)], user % 50)
    log = np.column_stack([user, item, DAY * np.arange(1500)])
    model = AdaptiveRecommender(members()).fit(log)
    assert model.weights_["all"]["seen before"] > 0
    items, _ = model.recommend(USERS, n_recommendations=3, exclude_seen=False)
    again = [np.isin(np.unique(favourites[user]), items[user]).mean() for user in USERS]
    assert np.mean(again) > 0.7


# --------------------------------------------------------------------------- learning


def test_no_weight_sees_a_row_before_it_is_predicted(monkeypatch):
    later = OLD.copy()
    later[900:, :2] = later[900:, :2][::-1]
    logs = [AdaptiveRecommender(members()).fit(rows).weights_log_ for rows in (OLD, later)]
    assert logs[0]["n_queries"].tolist() == [40] * 5
    for name in logs[0]:
        assert_array_equal(logs[0][name][:2], logs[1][name][:2], err_msg=name)
    assert (logs[0]["rank of ease"][3:] != logs[1]["rank of ease"][3:]).all()


def test_the_stream_is_a_loop_of_partial_fit(model):
    other = AdaptiveRecommender(members())
    list(iter_prequential(other, X, warm_up=1000, chunk_size=100, scoring=["ndcg"]))
    model.partial_fit(NEW[:100]).partial_fit(NEW[100:])
    assert other.weights_ == model.weights_
    assert_array_equal(other.predict(X), model.predict(X))


def test_weights_move_to_the_member_that_is_right(model):
    """Every user now takes what is best by popularity alone; the weights of the members follow."""
    before, time = model.weights_["all"], OLD[-1, 2] + DAY
    best, _ = model.named_estimators_.popular.recommend(USERS, n_recommendations=3)
    news = np.column_stack([USERS.repeat(3), best.ravel(), time + np.arange(180)])
    after = model.partial_fit(news).weights_["all"]
    gains = {name: after[name] - before[name] for name in after}
    assert gains["score of popular"] > max(gains["score of ease"], 0)
    assert len(model.weights_log_["time"]) == 5 + 1
    assert model.weights_log_["time"][-1] == news[-1, 2]


class FailingModel(PopularityModel):
    """Popularity that fails once it has learned 1,000 rows."""

    def _learn(self, events, undo, call):
        if self.n_users and len(events) == 150:
            self.items.extend(["trace"])
            raise RuntimeError("The member failed.")
        return super()._learn(events, undo, call)


class FailingRecommender(PopularityRecommender):
    def _make_model(self, rows):
        return FailingModel(rows, self._settings())


def test_a_failing_member_leaves_all_members_and_weights_as_they_were():
    model = AdaptiveRecommender([*members(), ("failing", FailingRecommender())]).fit(OLD)
    before = pickle.dumps(model._model.state())
    with pytest.raises(RuntimeError, match="The member failed"):
        model.partial_fit(NEW[:150])
    assert pickle.dumps(model._model.state()) == before
    model.partial_fit(NEW[:149])
    assert pickle.dumps(model._model.state()) != before


def test_observe_changes_histories_alone(model):
    weights, log = model.weights_, len(model.weights_log_["time"])
    before = model.recommend([3])[0]
    item = before[0, 0]
    model.observe([[3, item, X[-1, 2]], [3, "new", X[-1, 2]]])
    assert model.weights_ == weights
    assert len(model.weights_log_["time"]) == log
    assert item not in model.recommend([3])[0]
    assert "new" in model.item_ids_
    assert "new" not in model.named_estimators_.popular.item_ids_  # it has no observe
    assert model.recommend([4], n_recommendations=30, candidates=None)[1][0].min() > -np.inf


def test_forget_reaches_all_members(model):
    model.forget([3])
    for member in (model, *model.estimators_):
        assert 3 not in member.user_ids_


# ------------------------------------------------------------------------ shown lists


def shown_lists(model, clicked_by):
    """Return lists of ten with a click on the best item of a member."""
    items, _ = model.recommend(USERS)
    rank_of = clicked_by.predict(
        np.column_stack([np.repeat(USERS, 10), items.ravel(), np.full(600, OLD[-1, 2])])
    )
    click = rank_of.reshape(60, 10).argmax(axis=1)
    return pd.DataFrame(
        {
            "list_id": np.repeat(USERS, 10),
            "user_id": np.repeat(USERS, 10),
            "item_id": items.ravel(),
            "rank": np.tile(np.arange(1, 11), 60),
            "clicked": (np.arange(10) == click[:, None]).astype(int).ravel(),
        }
    )


def test_clicks_on_shown_lists_move_the_weights(model):
    shown = shown_lists(model, model.named_estimators_.popular)
    state = pickle.dumps(model._model.members.state())
    before = model.weights_["ahead"]
    for _ in range(3):
        model.partial_fit(None, shown=shown)
    after = model.weights_["ahead"]
    gains = {name: after[name] - before[name] for name in after}
    assert gains["score of popular"] > max(gains["score of ease"], 0)
    assert pickle.dumps(model._model.members.state()) == state
    assert np.isnan(model.weights_log_["ndcg@10 of the blend"][-1])
    n_events = len(NEW)
    model.partial_fit(NEW, shown=shown)
    assert model.n_users_ >= len(np.unique(NEW[:, 0]))
    assert model.weights_log_["n_queries"][-1] == 60 != n_events


def test_lists_ahead_have_weights_by_kind_of_user(model):
    contexts, ahead = list(model.weights_), _adaptive_parts.N_SETS
    assert contexts[ahead:] == [
        "ahead",
        "ahead, new user",
        "ahead, known user",
        "ahead, user of the last day",
    ]
    last, now = OLD[OLD[:, 0] == 3, 2].max(), OLD[-1, 2]
    for place, user, times in (
        (1, 900, now + np.arange(2)),
        (2, 3, max(last + DAY, now) + np.arange(2)),
        (3, 3, max(last + DAY, now) + DAY + np.arange(2)),  # one second less than a day
    ):
        before = model._model.blend.weights[ahead:].copy()
        model.partial_fit(np.column_stack([[user] * 2, [1, 2], times]))
        changed = (model._model.blend.weights[ahead:] != before).any(axis=1)
        assert np.flatnonzero(changed).tolist() == [0, place]
    assert not model._model.blend.weights[ahead + 4 :].any()


def test_lists_ahead_keep_the_share_of_first_weights_that_was_best(model):
    queries = np.column_stack([USERS, np.full(60, OLD[-1, 2])])
    blend, first = model._model.blend, np.repeat([0.5, 0.05], 2)
    learned = blend.weights[_adaptive_parts.N_SETS, :4]
    blend.quality = np.array([10.0, 10.1, 10.9, 9.0, 9.0])  # not by a whole list
    assert_allclose(list(model.weights_["ahead"].values())[:4], learned)
    for best, share in enumerate(_adaptive_shares.SHARES):
        blend.quality = 2.0 * (np.arange(len(_adaptive_shares.SHARES)) == best)
        row = list(model.weights_["ahead"].values())
        assert_allclose(row[:4], learned + share * first)
    equal = _adaptive_parts.Blend(2, True)
    found = model.recommend(queries, n_recommendations=5)[0]
    blend.weights[_adaptive_parts.N_SETS :] = 0.0
    blend.weights[_adaptive_parts.N_SETS] = equal.weights[_adaptive_parts.N_SETS]
    blend.quality[:] = 0.0
    same = found == model.recommend(queries, n_recommendations=5)[0]
    assert same.mean() > 0.9


def test_quality_of_lists_is_their_ndcg():
    ranks, lists = np.array([0, 4, 30, 9, 10]), np.array([2, 2, 2, 5, 7])
    slow = []
    for number in (2, 5, 7):
        own = ranks[lists == number]
        ideal = sum(1 / np.log2(k + 2) for k in range(len(own)))
        slow.append(sum(1 / np.log2(r + 2) for r in own if r < 10) / ideal)
    assert_allclose(_adaptive_shares.list_quality(ranks, lists), slow)
    total = 3.0
    for value in slow:
        total = 0.5 ** (1 / 3000) * total + value
    assert_allclose(_adaptive_shares.decayed_sum(np.array([3.0]), np.array([slow])), [total])


def test_each_share_is_scored_by_its_own_lists():
    rng, blend, ahead = np.random.default_rng(0), _adaptive_parts.Blend(2, True), 16
    blend.weights[:] += rng.normal(0, 0.3, blend.weights.shape)
    lists, features = np.array([0, 0, 3]), rng.normal(size=(2, 12, 8)).astype(np.float32)[[0, 0, 1]]
    contexts = np.array([[ahead, ahead + 1]] * 2 + [[ahead, ahead + 3]])
    targets = np.array([4, 7, 2])
    pools = _adaptive_parts.Pools(
        np.arange(12)[None].repeat(3, 0), np.full(3, 12), features, contexts, targets
    )
    before = blend.weights.copy()
    blend.score_shares(pools, lists)
    assert_array_equal(blend.weights, before)
    for share, found in zip(_adaptive_shares.SHARES, blend.quality, strict=True):
        gains = []
        for r in (0, 1, 2):
            total = before[ahead] + before[ahead + 1 + (r == 2)]
            total[:4] += share * np.array([0.5, 0.5, 0.05, 0.05])
            scores = features[r].astype(float) @ total
            rank = (scores > scores[targets[r]]).sum()
            gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
        ndcg = (gains[0] + gains[1]) / (1 + 1 / np.log2(3)), gains[2]
        assert found == pytest.approx(0.5 ** (1 / 3000) * ndcg[0] + ndcg[1])
    assert len(np.unique(blend.quality)) > 1


def test_drift_is_an_alarm_of_a_member_that_breaks(model):
    rng, blend = np.random.default_rng(0), model._model.blend
    blend.n_logged = 0
    for chunk in range(120):
        row = np.full(blend.log.shape[1], 0.0)
        row[:2] = chunk, 500
        row[2:5] = np.array([0.12, 0.03, 0.11 - 0.04 * (chunk >= 80)]) + rng.normal(0, 0.01, 3)
        blend.write(row)
        if chunk == 79:
            assert model.drift_ == []
    blend.write(np.full(blend.log.shape[1], np.nan))  # displayed lists have no NDCG
    [alarm] = model.drift_
    assert alarm.member == "ease"
    assert 80 < alarm.timestamp < 90
    assert alarm.before - alarm.after == pytest.approx(0.04, abs=0.01)


def test_places_explain_clicks_on_the_first_item(model):
    shown = shown_lists(model, model.named_estimators_.popular)
    shown["clicked"] = (shown["rank"] == 1).astype(int)
    for _ in range(5):
        model.partial_fit(None, shown=shown)
    places = model._model.blend.places[0, _adaptive_parts.N_SETS]
    assert places[0] > places[1:10].max() + 0.2
    before = model.weights_
    model.partial_fit(None, shown=shown.assign(clicked=0))  # without a click, nothing is learned
    model.partial_fit(None, shown=shown.assign(item_id=-shown["rank"]))  # nor from unknown items
    assert model.weights_ == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clicked": 2}, "clicked: 600 of 600 rows have values other than 0 and 1"),
        ({"rank": 0}, "rank: 600 of 600 rows .* whole numbers from 1"),
        ({"list_id": 1}, "user_id: 590 of 600 rows have values of another user"),
        ({"rank": 1}, "rank: 540 of 600 rows have values that an earlier row of their list has"),
        ({"item_id": 7}, "item_id: 540 of 600 rows have values that an earlier row"),
    ],
)
def test_wrong_lists_are_refused(model, change, message):
    shown = shown_lists(model, model.named_estimators_.popular).assign(**change)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(NEW, shown=shown)
    with pytest.raises(ValueError, match=r"columns \['rank'\] are missing"):
        model.partial_fit(NEW, shown=shown.drop(columns="rank"))
    with pytest.raises(ValueError, match="X is None: pass events, or displayed lists"):
        model.partial_fit(None)
    with pytest.raises(ValueError, match="not fitted yet"):
        AdaptiveRecommender(members()).partial_fit(
            NEW, shown=shown.assign(list_id=USERS.repeat(10), rank=1, clicked=1)
        )


def test_lists_are_learned_in_the_order_of_time(model, pickled):
    shown = shown_lists(model, model.named_estimators_.popular)
    shown["timestamp"] = shown["list_id"] + OLD[-1, 2]
    shown["rank"] = np.where(shown["rank"] < 10, shown["rank"], 1e300)
    mixed = shown.sample(frac=1, random_state=0)
    one, other = (pickle.loads(pickled).partial_fit(None, shown=s) for s in (shown, mixed))
    assert one.weights_ == other.weights_ != model.weights_


def test_wrong_tables_of_lists_are_refused(model):
    shown = shown_lists(model, model.named_estimators_.popular)
    before = model.weights_
    for wrong, message in ((shown[:0], "shown is empty"), ("abc", "shown is no table")):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(None, shown=wrong)
    for name in ("y", "sample_weight"):
        with pytest.raises(ValueError, match=f"{name} belongs to the rows of X"):
            model.partial_fit(None, shown=shown, **{name: [1.0]})
    with pytest.warns(IdTypeWarning, match="item_id"):
        model.partial_fit(None, shown=shown.assign(item_id=shown["item_id"].astype(str)))
    assert model.weights_ == before


# ------------------------------------------------------------------ reasons, final_estimator


def test_reasons_name_the_member_and_the_past_item(model):
    items, scores = model.recommend(USERS[:5], n_recommendations=1)
    reasons = model.explain(np.column_stack([USERS[:5], items[:, 0], np.full(5, OLD[-1, 2])]))
    assert_allclose(reasons.score, scores[:, 0], rtol=1e-5)
    assert {"popular", "ease", "item age", "behind the pool"} <= set(reasons.terms)
    assert_allclose(reasons["contribution of ease"], reasons.contribution)
    assert (reasons.contribution != 0).any()


def test_a_final_estimator_scores_the_pool():
    final = LogisticRegression(C=0.1, max_iter=500)
    model = AdaptiveRecommender(members(), final_estimator=final).fit(OLD)
    assert not hasattr(final, "coef_")
    linear = AdaptiveRecommender(members()).fit(OLD)
    assert (model.recommend(USERS)[1] != linear.recommend(USERS)[1]).all()
    reasons = model.explain(OLD[:3])
    assert_allclose(reasons.score, model.predict(OLD[:3]), rtol=1e-5)
    twin = pickle.loads(pickle.dumps(model))
    seen = {"list_id": 1, "user_id": 1, "item_id": OLD[:3, 1], "rank": [1, 2, 3], "clicked": 1}
    with pytest.raises(ValueError, match=r"shown: only the weights learn.*Omit shown"):
        twin.partial_fit(NEW, shown=seen)
    assert_array_equal(twin.partial_fit(NEW).predict(X), model.partial_fit(NEW).predict(X))


def test_examples_of_a_final_estimator_are_from_the_whole_pool():
    rng, n, width = np.random.default_rng(0), 30, 130
    sizes, targets = np.full(n, 120), rng.integers(-1, 120, n)
    sizes[5], targets[5] = 3, 2  # all of a small pool
    scores = np.where(np.arange(width) < sizes[:, None], rng.normal(size=(n, width)), -np.inf)
    features = np.arange(n * width, dtype=np.float32).reshape(n, width, 1)  # tells the item
    contexts = np.zeros((n, 3), np.int64)
    items = np.tile(np.arange(width), (n, 1))
    pools = _adaptive_parts.Pools(items, sizes, features, contexts, targets)
    X_, y = _adaptive_final.examples(pools, scores)
    query, place = np.divmod(X_[:, 0].astype(int), width)
    assert np.unique(query).tolist() == np.flatnonzero(targets >= 0).tolist()
    assert (place < sizes[query]).all()
    for q in np.unique(query):
        assert place[query == q][y[query == q]].tolist() == [targets[q]]
        others = place[(query == q) & ~y]
        if q == 5:
            assert others.tolist() == [0, 1]
            continue
        ranks = np.sort((scores[q, :120] > scores[q, others][:, None]).sum(axis=1))
        assert len(ranks) in (39, 40)
        assert ranks[0] < 6  # each third one, less the target
        assert ranks[-1] >= 114
        assert np.isin(np.diff(ranks), (3, 6)).all()


# ------------------------------------------------------------------------- parameters


def test_parameters_of_members_are_set_by_name(model):
    assert model.get_params()["ease__reg"] == 5.0
    model.set_params(ease__reg=50.0).partial_fit(NEW)
    weights = model.named_estimators_.ease.item_weights_
    assert_allclose(weights, EASERecommender(reg=50.0).fit(X).item_weights_, rtol=1e-4, atol=1e-6)
    model.set_params(popular="drop")
    with pytest.raises(ValueError, match="was set after fit"):
        model.partial_fit(NEW)
    assert [*model.fit(OLD).named_estimators_] == ["ease"]


def test_a_search_tunes_a_member():
    search = GridSearchCV(
        AdaptiveRecommender(members()),
        {"ease__reg": [1.0, 1e6]},
        cv=TemporalSplit(1, test_size=0.2),
    )
    assert search.fit(X).best_params_ == {"ease__reg": 1.0}


def test_wrong_members_are_refused():
    pipeline = make_recommender_pipeline(FunctionTransformer(), EASERecommender())
    for given, message in (
        ([], "at least one pair"),
        ([EASERecommender()], "list of pairs"),
        ([("a", "drop")], "all of them are 'drop'"),
        ([*members(), ("ease", EASERecommender())], "not unique"),
        ([("context", EASERecommender())], "conflict"),
    ):
        with pytest.raises(ValueError, match=message):
            AdaptiveRecommender(given).fit(OLD)
    for wrong in (pipeline, LogisticRegression()):
        with pytest.raises(TypeError, match=r"'a' is a .*Put the transformers"):
            AdaptiveRecommender([("a", wrong)]).fit(OLD)


class InfiniteModel(PopularityModel):
    value = 0.0

    def tile_scorer(self, users, columns, queries):
        score = super().tile_scorer(users, columns, queries)

        def write(r0, r1, c0, c1, out):
            score(r0, r1, c0, c1, out)
            out[:, 0] += InfiniteModel.value

        return write


class InfiniteRecommender(PopularityRecommender):
    def _make_model(self, rows):
        return InfiniteModel(rows, super()._make_model(rows).settings)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_member_without_finite_scores_is_named(monkeypatch, value):
    model = AdaptiveRecommender([("bad", InfiniteRecommender()), *members()]).fit(OLD)
    before = model.weights_, model.named_estimators_.ease.n_users_
    monkeypatch.setattr(InfiniteModel, "value", value)
    for call in (lambda: model.partial_fit(NEW), lambda: model.recommend(USERS[:2])):
        with pytest.raises(ValueError, match="'bad' has scores that are NaN or infinite for"):
            call()
    assert (model.weights_, model.named_estimators_.ease.n_users_) == before


@pytest.mark.parametrize("name", [1, "", "item age", "behind the pool", "the blend"])
def test_names_of_members_are_free(name):
    with pytest.raises(ValueError, match=f"estimators: {name!r} cannot be a name"):
        AdaptiveRecommender([(name, EASERecommender())]).fit(OLD)


def test_weights_that_overflow_are_refused():
    with pytest.raises(ValueError, match="Lower learning_rate"):
        AdaptiveRecommender(members(), learning_rate=1e300).fit(OLD)


def test_a_final_estimator_cannot_be_set_later(model):
    model.set_params(final_estimator=LogisticRegression())
    with pytest.raises(ValueError, match=r"final_estimator=.* was set after fit"):
        model.partial_fit(NEW)


def test_members_with_the_same_items_are_read_without_a_copy(model):
    core = model._model
    assert core._queries(np.arange(2), core.known_users().take(np.arange(2))).codes == (None, None)


def test_pairs_keep_their_latest_time():
    times = _adaptive_parts.PairTimes()
    for time in (5.0, 9.0, 2.0):
        times.append(np.array([1, 1]), np.array([3, 4]), np.array([time, 1.0]))
    assert times.of(np.array([1, 1, 2]), np.array([3, 4, 3])).tolist()[:2] == [9.0, 1.0]


def test_a_blend_can_be_a_member():
    inner = AdaptiveRecommender(members())
    outer = AdaptiveRecommender([("inner", inner), ("popular", PopularityRecommender())]).fit(OLD)
    assert outer.partial_fit(NEW).recommend([1])[0].shape == (1, 10)
    assert outer.set_params(inner__ease__reg=1.0).get_params()["inner__ease__reg"] == 1.0


# -------------------------------------------------------------------------- its parts


def test_pair_times_are_those_of_the_last_event(monkeypatch):
    monkeypatch.setattr(_adaptive_parts, "_NEW_PAIRS", 4)
    rng, times, known = np.random.default_rng(0), _adaptive_parts.PairTimes(), {}
    for step in range(12):
        user, item = rng.integers(0, 5, (2, 3))
        times.append(user, item, np.full(3, float(step)))
        known |= dict.fromkeys(zip(user.tolist(), item.tolist(), strict=True), float(step))
    user, item = np.divmod(np.arange(25), 5)
    expected = [known.get(pair, np.nan) for pair in zip(user.tolist(), item.tolist(), strict=True)]
    assert_array_equal(times.of(user, item), expected)
    times.forget(np.array([0, 2]))
    assert_array_equal(
        times.of(user[:15], item[:15]), np.array(expected).reshape(5, 5)[[1, 3, 4]].ravel()
    )


def test_the_log_is_bounded(model):
    blend = model._model.blend
    for number in range(250):
        blend.write(np.full(blend.log.shape[1], float(number)))
    assert model.weights_log_["time"].tolist() == [*range(50, 250)]


def test_the_last_events_of_a_softmax_member_are_observed_too():
    """It has no `observe`, but lists from the last events of users."""
    softmax = IncrementalMFRecommender(
        n_factors=4, loss="softmax", history_half_life=2, max_epochs=2, random_state=0
    )
    model = AdaptiveRecommender([("softmax", softmax), ("ease", EASERecommender())]).fit(OLD)
    own, queries = model.named_estimators_.softmax, [[3, X[-1, 2]]]
    factors, before = own.item_factors_.copy(), own.recommend(queries, exclude_seen=False)
    news = [[3, item, X[-1, 2]] for item in (7, 8)]
    model.observe(news)
    after = own.recommend(queries, exclude_seen=False)
    assert_array_equal(own.item_factors_, factors)
    assert (after[1] != before[1]).any()
    past = [row.tolist() for row in OLD[OLD[:, 0] == 3]]
    expected = own.recommend(queries, history=past + news, exclude_seen=False)
    assert_array_equal(after[0], expected[0])
    assert_allclose(after[1], expected[1], rtol=1e-5)


def test_a_long_fit_asks_for_its_last_rows(monkeypatch):
    every = AdaptiveRecommender(members()).fit(OLD)
    monkeypatch.setattr(_adaptive, "_MAX_QUERIES", 40)
    monkeypatch.setattr(_adaptive, "_PARTS", 1)
    few = AdaptiveRecommender(members()).fit(OLD)
    assert few.weights_log_["n_queries"].tolist() == [40]
    # Rows without a query have been learned all the same.
    assert few.weights_log_["ndcg@10 of ease"][-1] == every.weights_log_["ndcg@10 of ease"][-1]


def test_members_learn_the_last_rows_of_fit_in_parts():
    found = [(part.tolist(), asked) for part, asked in _adaptive_rows.parts_of(7, 4, 2)]
    assert found == [([0, 1, 2], False), ([3, 4], True), ([5, 6], True)]
    assert list(_adaptive_rows.parts_of(0, 4, 2)) == []


def test_first_lists_of_users_learn_from_all_that_comes():
    users, items = np.array([5, 6, 5, 5, 6]), np.array([1, 2, 3, -1, 4])
    contexts = np.zeros((5, 3), np.int64)
    contexts[0] = _adaptive_parts.N_SETS
    pool = np.array([[9, 3, 1, -1]] * 5)
    pools = _adaptive_parts.Pools(
        pool, np.full(5, 3), np.zeros((5, 4, 6), np.float32), contexts, np.full(5, -1)
    )
    found, weight, lists = _adaptive_rows.whole_lists(pools, users, items)
    assert found.targets.tolist() == [2, 1]  # items 1 and 3 of user 5; user 6 had news
    assert weight.tolist() == [0.5, 0.5]
    assert lists.tolist() == [0, 0]
    contexts[:] = 0
    assert _adaptive_rows.whole_lists(pools, users, items) is None
