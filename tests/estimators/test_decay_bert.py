"""DecayBertRecommender: leakage, updates, texts, searches and errors."""

import copy
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import DecayBertRecommender, FineTuning
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import prequential_score
from sklearn_recft.text._encoder import TextEncoder
from tests.contract.helpers import another_process
from tests.text.test_encoder import write_bert

DAY = 86_400
WORDS = [
    *("red", "green", "blue", "tea", "coffee", "milk"),
    *("rye", "oat", "sweet", "bitter", "cold", "warm"),
]


FEW_STEPS = {"batch_size": 256}  # where it does not matter how well is learned


def make_log(n=400, n_users=30, n_items=40, seed=0):
    """Make users who like half of the words, and items of three words each."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, len(WORDS), (n_items, 3))
    tastes = rng.normal(size=(n_users, len(WORDS)))
    users, items = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    liking = tastes[users[:, None], words[items]].sum(1)
    frame = pd.DataFrame({
        "user_id": users, "item_id": items,
        "timestamp": 1_600_000_000 + np.sort(rng.integers(0, 90 * DAY, n)),
        "text": [" ".join(WORDS[w] for w in words[item]) for item in items],
        "stars": 3 + liking + rng.normal(0, 0.5, n),
    })  # fmt: skip
    return frame, (liking > 0).astype(int)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_bert(tmp_path_factory.mktemp("bert"), seed=1))


@pytest.fixture(scope="module")
def fitted():
    X, y = make_log()
    model = DecayBertRecommender("scratch", outcome="stars", random_state=0, net_params=FEW_STEPS)
    return model.fit(X[:300], y[:300])


# ---------------------------------------------------------------------------- who may speak


def test_predictions_use_strictly_earlier_events_only(fitted):
    """Changes of events at or after a row leave its prediction bitwise equal."""
    X, y = make_log()
    X = X.assign(timestamp=X.timestamp // DAY * DAY)  # ties by the dozen
    model, rng = copy.deepcopy(fitted), np.random.default_rng(0)
    news, labels = X[300:].reset_index(drop=True), y[300:]
    y_pred = copy.deepcopy(model).partial_fit_predict_proba(news, labels)
    for row in (5, 40, 80):
        later = news.timestamp >= news.timestamp[row]
        other, others = news.copy(), np.where(later, 1 - labels, labels)
        other.loc[later, "stars"] = rng.normal(3, 2, later.sum())
        swapped = later & (np.arange(len(news)) != row)
        other.loc[swapped, "item_id"] = rng.integers(0, 60, swapped.sum())
        other.loc[swapped, "text"] = "another thing"
        other.loc[swapped, "user_id"] = rng.integers(0, 40, swapped.sum())
        for method in ("partial_fit_predict_proba", "observe_predict_proba"):
            as_it_was = getattr(copy.deepcopy(model), method)(news, labels)[row]
            assert getattr(copy.deepcopy(model), method)(other, others)[row] == as_it_was
        assert y_pred[row] == copy.deepcopy(model).partial_fit_predict_proba(other, others)[row]
    earlier = news.assign(stars=np.where(np.arange(len(news)) < 40, 9.0, news.stars))
    assert (
        copy.deepcopy(model).partial_fit_predict_proba(earlier, labels)[41:] != y_pred[41:]
    ).any()


def test_prequential_predictions_equal_a_replay_by_time(fitted):
    X, y = make_log()
    for method, learn in (
        ("partial_fit_predict_proba", "partial_fit"),
        ("observe_predict_proba", "observe"),
    ):
        at_once = getattr(copy.deepcopy(fitted), method)(X[300:340], y[300:340])
        model, one_by_one = copy.deepcopy(fitted), []
        for row in range(300, 340):
            one_by_one.append(model.predict_proba(X[row : row + 1])[0, 1])
            getattr(model, learn)(X[row : row + 1], y[row : row + 1])
        assert_allclose(at_once, one_by_one, rtol=1e-5)


def test_ties_with_the_newest_event_do_not_see_it(fitted):
    X, _ = make_log()
    model, row = copy.deepcopy(fitted), X[300:301]
    before = model.predict_proba(row)
    model.partial_fit(row.assign(stars=5.0), [1])
    assert_array_equal(model.predict_proba(row), before)
    later = row.assign(timestamp=row.timestamp + 1)
    assert (model.predict_proba(later) != before).any()


def test_answers_ignore_the_outcome_column(fitted):
    """Whatever is in it, and whatever the parameter is set to after fit."""
    X, y = make_log()
    queries = X.loc[:29, ["user_id", "timestamp"]]
    expected, lists = fitted.predict_proba(X[300:]), fitted.recommend(queries)
    for stars in (np.nan, "unknown"):
        queried = X.assign(stars=stars)
        assert_array_equal(fitted.predict_proba(queried[300:]), expected)
        queries = queried.loc[:29, ["user_id", "stars", "timestamp"]]
        assert_array_equal(fitted.recommend(queries)[1], lists[1])
    other = copy.deepcopy(fitted).set_params(outcome=None)
    assert_array_equal(other.predict_proba(X[300:]), expected)
    other = DecayBertRecommender(None, width=4, n_factors=2, max_epochs=1, random_state=0)
    other.fit(X, y)
    expected = other.predict_proba(X)
    assert_array_equal(other.set_params(outcome="stars").predict_proba(X), expected)
    with pytest.raises(ValueError, match="outcome='stars' was set after fit"):
        other.observe(X, y)


def test_a_row_does_not_use_its_own_outcome(fitted):
    X, _ = make_log()
    rows = X[300:]
    y_pred = fitted.predict_proba(rows)
    assert_array_equal(fitted.predict_proba(rows.assign(stars=-7.0)), y_pred)
    assert_array_equal(fitted.predict_proba(rows.drop(columns="stars")), y_pred)


def test_prequential_loop_follows_rows():
    X, y = make_log()
    model = DecayBertRecommender(None, random_state=0, net_params=FEW_STEPS)
    table = X[["user_id", "item_id", "timestamp"]]
    result = prequential_score(model, table, y, warm_up=300, chunk_size=1, scoring="auc")
    expected = model.fit(table[:300], y[:300]).partial_fit_predict_proba(table[300:], y[300:])
    assert result.metrics["auc"] == pytest.approx(roc_auc_score(y[300:], expected))


# ------------------------------------------------------------------------------ the methods


def test_observe_does_not_change_weights(fitted):
    X, y = make_log()
    model = copy.deepcopy(fitted)
    weights = [p.clone() for p in model.module_.parameters()]
    factors = [
        f.arrays()["item_factors"].copy() for f in model._model.features.tables.factorizations
    ]
    model.observe(X[300:], y[300:])
    for before, after in zip(weights, model.module_.parameters(), strict=True):
        assert_array_equal(before.detach().numpy(), after.detach().numpy())
    for before, f in zip(factors, model._model.features.tables.factorizations, strict=True):
        assert_array_equal(before, f.arrays()["item_factors"][: len(before)])
    queries = X[:1].assign(timestamp=X.timestamp.max() + DAY)
    assert (model.predict_proba(queries) != fitted.predict_proba(queries)).any()


def test_partial_fit_trains_the_net_with_an_update_rate():
    X, y = make_log()
    for training, moves in ((None, False), (FineTuning(update_rate=0.2), True)):
        model = DecayBertRecommender(
            "scratch", random_state=0, training=training, net_params=FEW_STEPS
        ).fit(X[:300], y[:300])
        before = model.module_.hidden.weight.detach().numpy().copy()
        model.partial_fit(X[300:], y[300:])
        assert (model.module_.hidden.weight.detach().numpy() != before).any() == moves
    assert len(model._model.reservoir) > 300


def test_texts_predict_cold_items():
    X, y = make_log(2500, n_users=60, n_items=200)
    hidden = X.item_id % 10 == 0
    listed = X[hidden].drop_duplicates("item_id")[["item_id", "text"]]
    model = DecayBertRecommender("scratch", max_epochs=4, random_state=0)
    model.fit(X[~hidden], y[~hidden], items=listed)
    queried = X[hidden].assign(timestamp=X.timestamp.max() + DAY)
    assert roc_auc_score(y[hidden], model.predict_proba(queried)[:, 1]) > 0.6
    items, _ = model.recommend([0, 1, 99], n_recommendations=5, candidates=listed.item_id)
    assert np.isin(items, listed.item_id).all()
    # Not in the catalogue, but in the row: an equal text gets an equal prediction.
    named = queried.assign(item_id=-1 - queried.item_id)
    assert_allclose(model.predict_proba(named), model.predict_proba(queried), atol=1e-5)


def test_positives_only_rank_bought_items_first():
    X, _ = make_interactions(50, 60, 2000, random_state=0, return_X_y=True)
    model = DecayBertRecommender(None, random_state=0, net_params=FEW_STEPS).fit(X)
    assert_array_equal(model.classes_, [0, 1])
    seen, often = np.unique(X[:, 1], return_counts=True)
    items, _ = model.recommend([12345], n_recommendations=10)
    popular = seen[np.argsort(-often)][:20]
    assert np.isin(items, popular).mean() >= 0.8
    with pytest.raises(ValueError, match="fit was called without y"):
        model.partial_fit(X, np.ones(len(X)))


def test_attention_explains_predictions(fitted):
    X, _ = make_log()
    rows = X[300:310]
    past = fitted.attend(rows)
    assert past.attention.shape == (10, 4, past.item_ids.shape[1])
    assert (past.attention >= 0).all()
    assert (past.attention.sum(2) <= 1 + 1e-5).all()
    for row in range(10):
        its = X[:300][X[:300].user_id == rows.user_id.iloc[row]]
        there = [item for item in past.item_ids[row] if item is not None]
        assert sorted(there) == sorted(its.item_id.tolist()[-50:])
        assert (np.diff(past.age[row, : len(there)]) >= 0).all()
    with pytest.raises(ValueError, match="1 rows have an unknown item"):
        fitted.attend(rows[:1].assign(item_id=999))


def test_half_lives_are_learned():
    log = make_interactions(
        100, 100, 12_000, half_life=2.0, feedback="click", noise=1.0, random_state=0
    )
    model = DecayBertRecommender(None, n_heads=1, max_epochs=3, random_state=0)
    model.fit(log.data, log.target)
    assert 0.7 < model.half_lives_[0] < 6
    fixed = []
    for training in (FineTuning(decay_rate=0.0), FineTuning(decay_rate=0.0, learning_rate=0.01)):
        model.set_params(training=training, max_epochs=1).fit(log.data[:1000], log.target[:1000])
        fixed.append(model.half_lives_)
    assert_allclose(*fixed, rtol=1e-5)
    model.set_params(decay="none", training=None).fit(log.data[:500], log.target[:500])
    assert_array_equal(model.half_lives_, [np.inf])


# ------------------------------------------------------------------------ in others' hands


def test_grid_search_encodes_each_text_once(folder):
    X, y = make_log()
    steps = [
        ("as it is", FunctionTransformer()),
        ("model", DecayBertRecommender(folder, net_params=FEW_STEPS)),
    ]
    search = GridSearchCV(
        Pipeline(steps),
        {"model__decay": ["exponential", "none"], "model__n_heads": [1, 2]},
        cv=TimeSeriesSplit(3), scoring="roc_auc", error_score="raise",
    )  # fmt: skip
    before = TextEncoder.n_encoded_by_all
    search.fit(X.drop(columns="stars"), y)
    assert TextEncoder.n_encoded_by_all - before <= X.text.nunique()
    assert search.best_score_ > 0.5


def test_cross_validation_in_another_process(folder):
    X, y = make_log(100)
    X = X.drop(columns="stars")
    model = DecayBertRecommender(folder, freeze=2, max_epochs=1, random_state=0)
    validate = partial(cross_val_predict, model, X, y, cv=2, method="predict_proba")
    y_pred = [validate(), another_process().submit(validate).result()]
    # Not to the bit: a process that has read some of the texts before reads the rest in other
    # batches.
    assert_allclose(*y_pred, atol=2e-3)


def test_a_saved_model_with_a_folder_continues(folder):
    X, y = make_log()
    for freeze in ("all", 2):
        model = DecayBertRecommender(folder, freeze=freeze, max_epochs=1, outcome="stars")
        model.set_params(random_state=0, net_params=FEW_STEPS).fit(X[:300], y[:300])
        other = pickle.loads(pickle.dumps(model))
        new = X[300:].assign(item_id=X.item_id[300:] + 1000, text="quite another thing")
        # The copy reads all texts again, in other batches. Some releases of torch round the sums of
        # a row by the batch it is in.
        assert_allclose(
            other.partial_fit_predict_proba(new, y[300:]),
            model.partial_fit_predict_proba(new, y[300:]),
            rtol=1e-6,
        )


def test_training_options_are_accepted():
    X, y = make_log()
    training = FineTuning(
        learning_rate=1e-3, weight_decay=0.1, warmup=0.2, accumulate=2, adversarial=0.1, patience=1
    )
    model = DecayBertRecommender(
        None, max_epochs=5, random_state=0, width=8, cold_dropout=0.0, n_factors=4,
        training=training,
    )  # fmt: skip
    model.fit(X, y)
    assert model.module_.hidden.out_features == 16
    assert len(model.net_.history_) <= 5
    with pytest.raises(ValueError, match="'n_layers' is unknown"):
        DecayBertRecommender("scratch", net_params={"n_layers": 3}).fit(X, y)
    with pytest.raises(ValueError, match=r"adversarial=0\.1.*no item embeddings"):
        DecayBertRecommender("scratch", training=training).fit(X, y)


def test_replay_size_zero_rehearses_nothing():
    X, y = make_log()
    model = DecayBertRecommender(
        None,
        random_state=0,
        replay_size=0,
        training=FineTuning(update_rate=0.2),
        net_params=FEW_STEPS,
    )
    model.fit(X[:300], y[:300])
    before = model.module_.hidden.weight.detach().numpy().copy()
    model.partial_fit(X[300:], y[300:])
    assert len(model._model.reservoir) == 0
    assert (model.module_.hidden.weight.detach().numpy() != before).any()


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "text", [None, "", "  ", "word " * 2000, "红茶 很 好喝", "شاي أخضر", "🍵", "a\x00b"]
)
def test_any_text_is_accepted(text):
    X, y = make_log(120)
    X.loc[X.item_id % 5 == 0, "text"] = text
    model = DecayBertRecommender("scratch", max_epochs=1, random_state=0, net_params=FEW_STEPS)
    model.fit(X[:100], y[:100])
    assert np.isfinite(model.partial_fit_predict_proba(X[100:], y[100:])).all()


def test_an_event_without_history_has_a_prediction(fitted):
    stranger = pd.DataFrame({"user_id": [999, 0], "item_id": [0, 999], "timestamp": [0, 0]})
    assert np.isfinite(fitted.predict_proba(stranger)).all()
    _, scores = fitted.recommend([999], n_recommendations=5)
    assert np.isfinite(scores).all()
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.ones(100)}, "one class only"),
        ({"y": np.arange(100) % 3}, "Only binary classification"),
        ({"backbone": "no/such-model-anywhere"}, "scratch"),
        ({"outcome": "seconds"}, "'seconds' is no column of X"),
        ({"freeze": 99}, "freeze=99.* from 0 to 2"),
        ({"freeze": 1, "backbone": None}, "freeze=1.*backbone=None"),
        ({"training": FineTuning(lora_rank=2)}, "lora_rank=2.*no layer"),
        ({"training": FineTuning(freeze_blocks=1)}, "no option freeze_blocks"),
        ({"training": FineTuning(average=0.5, patience=1)}, "average=0.5 and patience=1 exclude"),
        ({"items": [["a"]]}, "item_id"),
        ({"net_params": {"half_lives": [1.0]}}, "'half_lives' is unknown"),
    ],
)  # fmt: skip
def test_invalid_input_raises(change, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    X, y = make_log(100)
    given = dict(change)
    labels, items = given.pop("y", y), given.pop("items", None)
    model = DecayBertRecommender(**{"backbone": "scratch", **given})
    with pytest.raises(ValueError, match=message):
        model.fit(X, labels, items=items)
    assert not hasattr(model, "net_")


def test_labels_of_later_calls_must_be_those_of_fit(fitted):
    X, y = make_log()
    model = copy.deepcopy(fitted)
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        model.partial_fit(X[300:], y[300:] + 1)
    with pytest.raises(ValueError, match="not two labels"):
        DecayBertRecommender(None).partial_fit(X[["user_id", "item_id"]], y, classes=[0])
    one_sided = DecayBertRecommender(None, random_state=0)
    table = X[["user_id", "item_id", "timestamp"]]
    one_sided.partial_fit(table[:50], ["yes"] * 50, classes=["no", "yes"])
    assert one_sided.predict(table[:2]).tolist() == ["yes", "yes"]


def test_class_weights_shift_predictions():
    X, y = make_log()
    table = X[["user_id", "item_id", "timestamp"]]
    shares = []
    for weight in ({0: 10.0, 1: 1.0}, None, "balanced", {0: 1.0, 1: 10.0}):
        model = DecayBertRecommender(
            None, class_weight=weight, random_state=0, net_params=FEW_STEPS
        ).fit(table, y)
        shares.append(model.predict(table).mean())
    assert shares[0] < shares[1] < shares[3]
    assert shares[0] < shares[2] < shares[3]
