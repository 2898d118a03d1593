"""What is special to the deep & cross network: columns, features, drift and bad input."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.dcn.data import Counts
from sklearn_recft import FineTuning, IncrementalDCNClassifier, IncrementalDCNRecommender

PLAIN = {"n_factors": 0, "random_state": 0}
FEW_STEPS = {"batch_size": 256}


def clicks(n=1500, seed=0):
    """Return rows whose click depends on age and genre, and their side tables."""
    rng = np.random.default_rng(seed)
    users = pd.DataFrame({"user_id": np.arange(40), "age": rng.choice([20.0, 40.0, 60.0], 40)})
    genres = ["war|drama", "comedy", "drama", "comedy|war"]
    items = pd.DataFrame({"item_id": np.arange(30), "genres": [genres[i % 4] for i in range(30)]})
    X = pd.DataFrame({"user_id": rng.integers(0, 40, n), "item_id": rng.integers(0, 30, n)})
    X["hour"] = rng.integers(0, 24, n)
    young = users["age"].to_numpy()[X["user_id"]] == 20
    war = items["genres"].str.contains("war").to_numpy()[X["item_id"]]
    return X, (young == war).astype(int), users, items


@pytest.fixture(scope="module")
def crossed():
    """Return a classifier with side tables, and its data."""
    X, y, users, items = clicks()
    model = IncrementalDCNClassifier(
        **PLAIN, lists=["genres"], categorical=["hour"], max_epochs=8, net_params={"batch_size": 32}
    )
    return model.fit(X, y, users=users[:36], items=items), (X, y, users, items)


def test_a_cross_of_profile_and_genre_is_found_for_a_new_user(crossed):
    model, (_, _, _, items) = crossed
    assert model.feature_columns_ == ["hour", "age", "genres"]
    war = items["genres"].str.contains("war").to_numpy()
    for age in (20.0, 60.0):
        query = pd.DataFrame({"user_id": ["new"], "age": [age], "hour": [3]})
        listed, scores = model.recommend(query, n_recommendations=15)
        found = war[listed[0].astype(int)].mean()
        assert found > 0.9 if age == 20 else found < 0.1
        assert (np.diff(scores[0]) <= 0).all()


def test_lists_are_split_only_where_told(crossed):
    model, (X, y, _, items) = crossed
    widths = model._model.columns.widths
    assert widths == (1, 4)  # hour, and two genres at most, with room for more
    other = IncrementalDCNClassifier(**PLAIN, max_epochs=1, net_params=FEW_STEPS).fit(
        X, y, items=items
    )
    assert other._model.columns.widths == (1,)  # four strings; the hour is a number


def test_features_in_rows_equal_those_of_a_table():
    X, y, users, _ = clicks(600)
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=2)
    tabled = model.fit(X, y, users=users).predict_proba(X)
    joined = X.merge(users, on="user_id", how="left")
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=2, user_features=["age"])
    known = users["user_id"].isin(X["user_id"]).all()
    assert known
    assert_allclose(model.fit(joined, y).predict_proba(joined), tabled, rtol=1e-5)
    assert_allclose(model.predict_proba(X), tabled, rtol=1e-5)  # the age is remembered


def test_polars_equals_pandas():
    X, y, _, items = clicks(400)
    X["device"] = np.where(X["hour"] > 12, "phone", None)
    model = IncrementalDCNClassifier(**PLAIN, lists=["genres"], max_epochs=1, net_params=FEW_STEPS)
    expected = model.fit(X, y, items=items).predict_proba(X)
    found = model.fit(pl.from_pandas(X), y, items=pl.from_pandas(items))
    assert_array_equal(found.predict_proba(pl.from_pandas(X)), expected)


def test_new_values_are_learned_and_untouched_ones_do_not_move():
    X, y, _, _ = clicks(600)
    X["shop"] = np.where(X["hour"] % 2, "a", "b")
    model = IncrementalDCNClassifier(
        **PLAIN, max_epochs=1, net_params=FEW_STEPS, replay_size=0
    ).fit(X, y)
    module = model.module_
    before = {name: getattr(module, name).detach().clone() for name in module.TABLES}
    news = X[:50].assign(user_id=900, item_id=901, shop="c")
    model.partial_fit(news, y[:50])
    for name, known in before.items():
        table = getattr(module, name).detach()
        assert len(table) == len(known) + 1
        assert_array_equal(table[: len(known)], known)
        assert (table[len(known)] != table[len(known) - 1]).all()


def test_a_row_does_not_see_its_own_label():
    """The label of the last row changes no input of the net before it is learned."""
    X, y, _, _ = clicks(300)
    X["timestamp"] = np.arange(300) // 3  # three rows at a time do not see each other
    models = []
    for label in (0, 1):
        target = y.copy()
        target[-3:] = label
        model = IncrementalDCNClassifier(
            n_factors=4, random_state=0, max_epochs=1, net_params=FEW_STEPS
        )
        models.append(model.fit(X, target)._model)
    inputs = [model.reservoir.take(np.arange(300)) for model in models]
    for name in ("numbers", "offset"):
        assert_array_equal(inputs[0][name], inputs[1][name])
    assert np.abs(inputs[0]["offset"]).max() > 0


def test_the_offset_is_the_first_score():
    X, y, _, _ = clicks(400)
    X["offset"] = np.linspace(-2, 2, 400)
    model = IncrementalDCNClassifier(
        **PLAIN, max_epochs=1, net_params=FEW_STEPS, training=FineTuning(learning_rate=1e-9)
    )
    found = model.fit(X, y).predict_proba(X)[:, 1]
    expected = X["offset"].to_numpy() + model.module_.head.bias.item()
    assert_allclose(found, 1 / (1 + np.exp(-expected)), atol=1e-4)


@pytest.fixture(scope="module")
def world():
    """Return a log of counts, a model of its first world, and rows of both to be asked of."""
    log = Counts(0)
    X, y, _ = log.rows(4000)
    model = IncrementalDCNRecommender(
        **PLAIN, use_ids=False, max_epochs=12, net_params={"batch_size": 64},
        training=FineTuning(learning_rate=3e-3, update_rate=0.1),
    )  # fmt: skip
    model.fit(X, y)
    return log, model, [log.rows(1500, w) for w in (0, 1)]


def error(model, asked):
    return np.sqrt(np.mean((model.predict(asked[0]) - asked[2]) ** 2))


def test_counts_are_learned_and_a_turn_is_followed(world):
    log, fitted, (old, new) = world
    assert error(fitted, old) < 0.2
    turned, kept = (pickle.loads(pickle.dumps(fitted)) for _ in range(2))
    kept.set_params(drift=None)
    for _ in range(2):
        X, y, _ = log.rows(500, 1)
        turned.partial_fit(X, y)
        kept.partial_fit(X, y)
    assert error(turned, new) < 0.5 * error(kept, new)
    assert error(fitted, new) > 1.0


def test_what_stays_the_same_is_not_forgotten(world):
    log, fitted, (old, _) = world
    model = pickle.loads(pickle.dumps(fitted))
    for _ in range(3):
        model.partial_fit(*log.rows(300, 0)[:2])
    assert error(model, old) < error(fitted, old) + 0.03
    assert len(model._model.reservoir) == 4900


def test_counts_as_a_target():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user_id": rng.integers(0, 30, 2000), "item_id": rng.integers(0, 20, 2000)})
    X["visits"] = rng.normal(size=2000)
    rate = np.exp(0.5 + 0.7 * X["visits"])
    y = rng.poisson(rate)
    model = IncrementalDCNRecommender(loss="poisson", random_state=0, max_epochs=4).fit(X, y)
    assert np.corrcoef(model.predict(X), rate)[0, 1] > 0.95
    assert abs(model.predict(X).mean() / y.mean() - 1) < 0.1
    with pytest.raises(ValueError, match=r"y: 1 of 3 rows lie below 0, which loss='poisson'"):
        model.partial_fit(X[:3], [0, -1, 2])


def test_frozen_layers_stay():
    X, y, _, _ = clicks(300)
    training = FineTuning(freeze_blocks="all")
    model = IncrementalDCNClassifier(
        **PLAIN, max_epochs=1, net_params=FEW_STEPS, training=training
    ).fit(X, y)
    before = [p.detach().clone() for p in model.module_.deep.parameters()]
    head = model.module_.head.weight.detach().clone()
    model.partial_fit(X[:100], y[:100])
    for parameter, kept in zip(model.module_.deep.parameters(), before, strict=True):
        assert_array_equal(parameter.detach(), kept)
        assert parameter.requires_grad
    assert (model.module_.head.weight != head).any()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"categorical": ["user_id"]}, r"categorical: \['user_id'\] are no names of columns"),
        ({"categorical": ["hour"], "lists": ["hour"]}, r"\['hour'\] are in both"),
        ({"categorical": ["hours"]}, r"categorical: X has no columns \['hours'\]"),
        ({"lists": ["hour"]}, "hour: all 60 rows are numbers, and lists names columns of lists"),
        ({"hidden": (0,)}, r"hidden=\(0,\): it must be"),
        ({"training": FineTuning(clip=1.0)}, "no option clip"),
    ],
)
def test_wrong_parameters_are_named(params, message):
    X, y, _, _ = clicks(60)
    with pytest.raises((ValueError, TypeError), match=message):
        IncrementalDCNClassifier(**{**PLAIN, **params}).fit(X, y)


def test_columns_of_another_kind_are_refused_and_change_nothing(crossed):
    model, (X, y, _, items) = crossed
    before = pickle.dumps(model)
    with pytest.raises(TypeError, match="age: all 1 rows are categories, and fit had numbers"):
        model.partial_fit(X[:9], y[:9], users=pd.DataFrame({"user_id": [99], "age": ["old"]}))
    with pytest.raises(ValueError, match=r"items: \['price'\] are no features of fit"):
        model.partial_fit(X[:9], y[:9], items=items.assign(price=1.0))
    assert pickle.dumps(model) == before


def test_adapt_needs_factors():
    assert hasattr(IncrementalDCNClassifier(), "adapt")
    assert not hasattr(IncrementalDCNClassifier(n_factors=0), "adapt")


def test_layers_start_from_a_pretrained_module(tmp_path):
    X, y, _, _ = clicks(300)
    first = IncrementalDCNClassifier(**PLAIN, max_epochs=3).fit(X, y).module_
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    still = FineTuning(learning_rate=1e-12, weight_decay=0.0)
    for given in (first, str(tmp_path / "weights.pt")):
        model = IncrementalDCNClassifier(**PLAIN, module=given, training=still).fit(X[:99], y[:99])
        for name in ("cross.0.down.weight", "deep.1.weight", "head.weight"):
            own, theirs = (
                dict(m.named_parameters())[name].detach() for m in (model.module_, first)
            )
            assert_allclose(own, theirs, atol=1e-6)
    for wrong, message in (
        (str(tmp_path / "none.pt"), "the file cannot be read"),
        (torch.nn.Linear(2, 3), "none of its 2 tensors has the name and the shape of a layer"),
    ):
        with pytest.raises(ValueError, match=message):
            IncrementalDCNClassifier(**PLAIN, module=wrong).fit(X, y)


def test_categories_and_lists_that_no_table_has_are_named():
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "n": [0.5, 1.0], "c": ["a", "b"]})
    for parameter in ("categorical", "lists"):
        model = IncrementalDCNRecommender(**{parameter: ["typo"]})
        with pytest.raises(
            ValueError, match=rf"{parameter}: X has no columns \['typo'\].*'n', 'c'"
        ):
            model.fit(X, [1.0, 2.0])
    items = pd.DataFrame({"item_id": [1, 2], "typo": [1, 2]})
    model = IncrementalDCNRecommender(
        categorical=["typo"], max_epochs=1, net_params=FEW_STEPS, n_factors=0
    )
    assert model.fit(X, [1.0, 2.0], items=items).feature_columns_ == ["c", "typo"]


def test_feedback_whose_squares_overflow_is_scaled():
    X, y = [[1, 1], [2, 2], [3, 1]], np.array([1.0, 2.0, 4.0])
    models = [
        IncrementalDCNRecommender(
            max_epochs=1, net_params=FEW_STEPS, n_factors=0, random_state=0
        ).fit(X, unit * y)
        for unit in (1.0, 2.0**90)
    ]
    assert_array_equal(models[1].predict(X), 2.0**90 * models[0].predict(X))
