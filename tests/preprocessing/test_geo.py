"""Features of places: known distances, equal cells, the date line, unknown and wrong places."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.utils import estimator_checks

from sklearn_recft import IncrementalDCNClassifier, IncrementalMFRecommender
from sklearn_recft.pipeline import RecommenderPipeline
from sklearn_recft.preprocessing import GeoFeatures

BERLIN, PARIS, SUVA = (52.52, 13.405), (48.8566, 2.3522), (-18.14, 178.44)
SHOPS = {"pizza": BERLIN, "baguette": PARIS}


def places(*pairs, **more):
    latitude, longitude = zip(*pairs, strict=True)
    return pd.DataFrame({"latitude": latitude, "longitude": longitude} | more)


def named(X, **params):
    return GeoFeatures(random_state=0, **params).set_output(transform="pandas").fit_transform(X)


latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)
quick = settings(deadline=None, max_examples=20)


@given(st.lists(st.tuples(latitudes, longitudes), min_size=1, max_size=20), st.floats(1, 500))
@quick
def test_distances_cells_and_centers_are_finite_and_near(pairs, km):
    X = places(*pairs, item_id=["pizza"] * len(pairs))
    model = GeoFeatures(item_places=SHOPS, cell_km=km, max_cells=100, n_centers=3, random_state=0)
    found = model.set_output(transform="pandas").fit_transform(X)
    assert np.isfinite(found.to_numpy()).all()
    cells = found.filter(like="cell_").to_numpy()
    assert_array_equal(cells.sum(1), 1)  # each place is in one cell
    points = np.array([on_sphere(*pair) for pair in pairs])
    angles = np.arccos(np.clip(points @ on_sphere(*BERLIN), -1, 1))
    assert_allclose(np.expm1(found["log_distance"]), 6371.0088 * angles, rtol=1e-3, atol=0.2)
    centers = found.filter(like="center_").to_numpy()
    assert ((centers >= 0) & (centers <= 1)).all()


def on_sphere(latitude, longitude):
    a, b = np.radians([latitude, longitude])
    return np.array([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])


def test_a_known_distance():
    found = named(places(BERLIN, BERLIN, item_id=["baguette", "pizza"]), item_places=SHOPS)
    assert np.expm1(found["log_distance"]).round().tolist() == [877, 0]


def test_cells_have_one_area_and_the_date_line_is_no_border_of_centers():
    model = GeoFeatures(cell_km=50, n_centers=1, random_state=0)
    X = places((-18.0, 179.9), (-18.0, -179.9))
    found = model.fit(X)
    # Between the two: k-means on random batches need not hit the middle.
    assert abs(abs(found.centers_[0, 1]) - 180) < 0.1
    assert found.bandwidth_km_ < 11
    near_pole = GeoFeatures(cell_km=50).fit(places((80.0, 10.3), (80.0, 11.3)))
    assert len(near_pole.cells_) == 1  # a degree is 19 km here
    assert len(GeoFeatures(cell_km=50).fit(places((0.0, 10.0), (0.0, 11.0))).cells_) == 2


def test_the_most_frequent_cells_are_kept_and_others_are_in_none():
    X = places(*[BERLIN] * 3, *[PARIS] * 2, SUVA)
    onehot = named(X, max_cells=2, n_centers=0)
    assert_array_equal(onehot.filter(like="cell").to_numpy()[[0, 3, 5]], [[1, 0], [0, 1], [0, 0]])
    ordinal = named(X, max_cells=2, n_centers=0, encode="ordinal")
    assert ordinal["cell"].tolist() == [0, 0, 0, 1, 1, -1]
    assert named(X, max_cells=0, n_centers=0).columns.tolist() == ["place_unknown"]


def test_unknown_places_have_the_documented_values():
    X = places(BERLIN, PARIS, (np.nan, 3.0), (None, None), item_id=["pizza", "pizza", "pizza", "x"])
    found = named(X, item_places=SHOPS, n_centers=2)
    mean = found["log_distance"][:2].mean()
    assert found["place_unknown"].tolist() == [0, 0, 1, 1]
    assert_allclose(found["log_distance"][2:], mean)
    assert not found.filter(regex="cell|center").to_numpy()[2:].any()
    everything = named(places((np.nan, np.nan), item_id=["x"]), item_places=SHOPS)
    assert everything.to_numpy().tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (places((95.0, 3.0), BERLIN), "latitude: 1 of 2 rows are outside of -90 to 90.*swapped"),
        (places((5.0, 200.0)), "longitude: 1 of 1 rows .*Subtract 360"),
        (places((np.inf, 2.0)), "latitude: 1 of 1 rows .*1 are inf"),
        (places(("north", 2.0)), "latitude: 1 of 1 rows are no numbers, the first 'north'"),
        (pd.DataFrame({"lat": [1.0], "lon": [2.0]}), "no column latitude and no column longitude"),
    ],
)
def test_bad_places_are_refused_and_change_nothing(X, words):
    with pytest.raises(ValueError, match=words):
        GeoFeatures().fit(X)
    model = GeoFeatures(random_state=0).fit(places(BERLIN, PARIS))
    before = model.transform(places(SUVA))
    with pytest.raises(ValueError, match=words):
        model.fit(X)
    with pytest.raises(ValueError, match=r"itude|feature names"):
        model.transform(X)
    assert_array_equal(model.transform(places(SUVA)), before)


def test_distances_need_items_and_places_of_items():
    with pytest.raises(ValueError, match="need the column item_id"):
        GeoFeatures(item_places=SHOPS).fit(places(BERLIN))
    with pytest.raises(ValueError, match="item_places: latitude: 1 of 1 rows"):
        GeoFeatures(item_places={"x": (100, 1)}).fit(places(BERLIN, item_id=["x"]))
    with pytest.raises(ValueError, match="item_places: give latitude and longitude"):
        GeoFeatures(item_places={"x": (1,)}).fit(places(BERLIN, item_id=["x"]))
    table = places(*SHOPS.values(), item_id=list(SHOPS))
    X = places(PARIS, item_id=["pizza"])
    assert_array_equal(named(X, item_places=table), named(X, item_places=SHOPS))


def test_other_frames_names_and_pickles():
    X = places(BERLIN, PARIS, SUVA)
    model = GeoFeatures(random_state=0).fit(X)
    assert_array_equal(GeoFeatures(random_state=0).fit(pl.from_pandas(X)).transform(pl.from_pandas(X)),
                       model.transform(X))  # fmt: skip
    other = GeoFeatures(("lat", "lon"), random_state=0)
    renamed = X.rename(columns={"latitude": "lat", "longitude": "lon"})
    assert_array_equal(other.fit_transform(renamed), model.transform(X))
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))
    assert_array_equal(clone(model).fit(X).transform(X), model.transform(X))
    assert len(model.get_feature_names_out()) == model.transform(X).shape[1]


class Tenth(GeoFeatures):
    """Reads a tenth of each number: the checks below have numbers around 100."""

    def fit(self, X, y=None):
        return super().fit(np.asarray(X) / 10, y)

    def transform(self, X):
        return super().transform(np.asarray(X) / 10)


@pytest.mark.parametrize(
    "check", ["check_fit_check_is_fitted", "check_fit_idempotent", "check_n_features_in"]
)
def test_checks_of_scikit_learn_with_numbers_that_are_degrees(check):
    getattr(estimator_checks, check)("Tenth", Tenth(random_state=0))


def log(n=400, seed=0):
    """People in Berlin like pizza, people in Paris baguettes."""
    rng = np.random.default_rng(seed)
    home = rng.integers(2, size=n)
    base = np.array([BERLIN, PARIS])[home] + rng.normal(0, 0.05, (n, 2))
    item = rng.integers(2, size=n)
    X = places(*base.tolist(), user_id=rng.integers(30, size=n), timestamp=np.arange(n) * 60.0)
    X["item_id"] = np.array(list(SHOPS))[item]
    return X, (home == item).astype(float)


def test_before_a_deep_and_cross_network():
    X, y = log()
    geo = GeoFeatures(item_places=SHOPS, random_state=0).set_output(transform="pandas")
    table = X[["user_id", "item_id", "timestamp"]].join(geo.fit_transform(X))
    model = IncrementalDCNClassifier(random_state=0, max_epochs=5).fit(table[:300], y[:300])
    assert model.score(table[300:], y[300:]) > 0.9


def test_in_a_pipeline_lists_follow_the_place_of_the_query():
    X, y = log()
    X = X[["user_id", "item_id", "timestamp", "latitude", "longitude"]]
    step = make_column_transformer(
        (GeoFeatures(n_centers=2, random_state=0), ["latitude", "longitude"]),
        remainder="passthrough",
    ).set_output(transform="pandas")
    model = RecommenderPipeline(
        [("geo", step), ("model", IncrementalMFRecommender(random_state=0))]
    ).fit(X, y)
    query = X[:3][["user_id", "latitude", "longitude"]]
    items, scores = model.recommend(query, n_recommendations=1, exclude_seen=False)
    assert items.shape == (3, 1)
    assert np.isfinite(scores).all()


def test_columns_that_are_set_after_fit_count_from_the_next_fit():
    X = places(BERLIN, PARIS).rename(columns={"latitude": "y", "longitude": "x"})
    geo = GeoFeatures(["y", "x"], max_cells=2, n_centers=0).fit(X)
    before = geo.transform(X)
    assert_array_equal(geo.set_params(columns=["x", "y"]).transform(X), before)
    assert (geo.fit(X).transform(X[::-1]) != before).any()
