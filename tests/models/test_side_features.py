"""Features are remembered by code; what is missing or unknown is the mean."""

import pickle

import numpy as np
import pytest

from sklearn_recft.features import to_feature
from sklearn_recft.models import Part, SideFeatures
from sklearn_recft.models._feature_encoding import MAX_CATEGORIES
from sklearn_recft.models._state import from_plain, to_plain

AGES = to_feature([20.0, 40.0, None, 30.0], "age")
SEXES = to_feature(["f", "m", "f", "m"], "sex")
GENRES = to_feature([["war", "drama"], ["drama"], None, ["war"]], "genres")
COLUMNS = {"age": AGES, "sex": SEXES, "genres": GENRES}
TITLES = ["Toy Story", "Toy Story 2", "Heat", "Casino", "Jumanji", "Nixon"]


def make_encoder(texts):
    from sklearn_recft.text import load_encoder

    return load_encoder("scratch", texts=texts, seed=0)


def fitted(columns=COLUMNS, n=4, **options):
    part = SideFeatures(**{"per_user": True} | options)
    part.fit(columns)
    part.learn(np.arange(n), columns, n)
    return part


def same(ours, theirs):
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert np.array_equal(pickle.dumps(value), pickle.dumps(theirs[name])), name


def test_it_is_a_part():
    assert isinstance(SideFeatures(per_user=True), Part)


def test_without_features_there_is_the_constant_alone():
    part = SideFeatures(per_user=True)
    assert part.feature_names == ["1"]
    assert part.matrix(np.array([0, 3, -1])).tolist() == [[1.0]] * 3
    part.learn(np.arange(2), {}, 2)
    assert part.matrix(np.arange(2)).tolist() == [[1.0]] * 2


def test_known_answer():
    part = fitted()
    assert part.feature_names == [
        "1", "age", "sex=f", "sex=m", "genres=drama", "genres=war",
    ]  # fmt: skip
    deviation = np.std([20, 30, 40])
    third = 1 / 3
    assert np.allclose(
        part.matrix(np.array([0, 1, 2, 3, -1, 9])),
        [
            [1, -10 / deviation, 0.5, -0.5, third, third],
            [1, 10 / deviation, -0.5, 0.5, third, -2 * third],
            [1, 0, 0.5, -0.5, 0, 0],
            [1, 0, -0.5, 0.5, -2 * third, third],
            [1, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],
        ],
    )


def test_the_mean_of_the_training_rows_is_zero():
    rng = np.random.default_rng(0)
    columns = {
        "x": to_feature(rng.normal(50, 9, 200), "x"),
        "c": to_feature([None, *rng.choice(list("abcd"), 199)], "c"),
        "s": to_feature([list(rng.choice(list("abcd"), 2)) for _ in range(200)], "s"),
    }
    matrix = fitted(columns, 200).matrix(np.arange(200))
    assert np.allclose(matrix.mean(0), [1] + [0] * (matrix.shape[1] - 1))
    assert np.isclose(matrix[:, 1].std(), 1)


def test_unknown_and_missing_values_are_the_mean():
    part = fitted()
    strange = {
        "age": to_feature([None, np.nan], "age"),
        "sex": to_feature(["x", None], "sex"),
        "genres": to_feature([["noir"], None], "genres"),
    }
    mean = [[1.0] + [0.0] * 5] * 2
    assert part.transform(strange, 2).tolist() == mean
    assert part.transform({}, 2).tolist() == mean
    part.learn(np.array([4, 5]), strange, 6)
    assert part.matrix(np.array([4, 5])).tolist() == mean


def test_unknown_members_of_a_list_are_ignored():
    part = fitted()
    some = {"genres": to_feature([["drama", "noir"], ["drama"]], "genres")}
    first, second = part.transform(some, 2)
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "column",
    [
        to_feature([None] * 4, "x"),
        to_feature([0.1] * 4, "x"),
        to_feature([7.0, None, 7.0, None], "x"),
        to_feature(["a"] * 4, "x"),
        to_feature(["a", "b", "c", "d"], "x"),
        to_feature([["a", "b"]] * 4, "x"),
    ],
    ids=["missing", "constant", "one number", "one category", "ids", "one list"],
)
def test_columns_that_tell_nothing_are_not_encoded(column):
    part = fitted({"x": column, "age": AGES})
    assert part.feature_names == ["1", "age"]
    # Whatever their values are later, they raise no error.
    again = {"x": column, "age": to_feature([50.0] * 4, "age")}
    assert np.isfinite(part.transform(again, 4)).all()


def test_a_feature_that_was_always_missing_stays_so():
    part = fitted({"x": to_feature([None] * 4, "x"), "age": AGES})
    later = {"x": to_feature(["a"], "x"), "age": to_feature([30.0], "age")}
    part.learn(np.array([4]), later, 5)
    assert part.matrix(np.array([4])).tolist() == [[1.0, 0.0]]


def test_the_most_common_categories_have_columns():
    values = [f"c{j}" for j in range(MAX_CATEGORIES + 20) for _ in range(2 + (j >= 20))]
    part = fitted({"c": to_feature(values, "c")}, len(values))
    assert part.n_features == 1 + MAX_CATEGORIES
    assert "c=c19" not in part.feature_names
    assert "c=c20" in part.feature_names


def test_the_first_features_of_an_id_are_kept():
    part = SideFeatures(per_user=True)
    part.fit(COLUMNS)
    part.learn(np.arange(4), {"age": to_feature([20.0, None, None, 40.0], "age")}, 4)
    part.learn(np.arange(4), {"age": to_feature([60.0, 60.0, None, 60.0], "age")}, 4)
    ages = part.matrix(np.arange(4))[:, 1] * np.std([20, 30, 40]) + 30
    assert np.allclose(ages, [20, 60, 30, 40])


@pytest.mark.parametrize("per_user", [True, False])
def test_undo(per_user):
    part = fitted(per_user=per_user)
    part.learn(np.array([5]), {"age": to_feature([50.0], "age")}, 6)  # 4 is without features
    before = part.state()
    mark = part.mark(np.array([4, 5, -1]))
    part.learn(np.array([4, 5, 9]), {"age": to_feature([1.0, 2.0, 3.0], "age")}, 40)
    assert part.matrix(np.array([4]))[0, 1] != 0
    part.restore(mark)
    same(part.state(), before)
    part.learn(np.array([7]), {"sex": to_feature(["f"], "sex")}, 9)
    assert part.matrix(np.array([4, 6, 8]))[:, 1:].any() == np.False_


def test_undo_of_fit():
    part = SideFeatures(per_user=True)
    before, mark = part.state(), part.mark()
    part.fit(COLUMNS)
    part.learn(np.arange(4), COLUMNS, 4)
    part.restore(mark)
    same(part.state(), before)
    assert part.n_features == 1


def test_state():
    part = fitted()
    twin = SideFeatures(per_user=True)
    twin.load_state(from_plain(pickle.loads(pickle.dumps(to_plain(part.state())))))
    assert twin.feature_names == part.feature_names
    assert np.array_equal(twin.matrix(np.arange(-1, 6)), part.matrix(np.arange(-1, 6)))
    assert np.array_equal(twin.transform(COLUMNS, 4), part.transform(COLUMNS, 4))
    twin.learn(np.array([4]), {"age": to_feature([50.0], "age")}, 5)
    assert part.matrix(np.array([4]))[0, 1] == 0  # nothing is shared
    part.learn(np.array([4]), {"age": to_feature([50.0], "age")}, 5)
    same(twin.state(), part.state())


def test_forget():
    part, whole = fitted(), fitted()
    part.forget(np.array([0, 2]))
    assert len(part) == 2
    assert np.array_equal(part.matrix(np.arange(2)), whole.matrix(np.array([1, 3])))
    part.learn(np.array([2]), {"age": to_feature([50.0], "age")}, 3)
    assert part.matrix(np.array([2]))[0, 1] > 0
    before = part.state()
    part.forget(np.array([9]))  # an id that no features were learned of
    same(part.state(), before)
    items = fitted(per_user=False)
    items.forget(np.array([0, 2]))
    same(items.state(), whole.state())


def test_columns_of_another_kind_are_refused():
    part = fitted()
    before = part.state()
    with pytest.raises(TypeError, match="age: all 1 rows are categories, and fit had numbers"):
        part.learn(np.array([4]), {"age": to_feature(["old"], "age")}, 5)
    with pytest.raises(ValueError, match=r"users: \['Age'\] are no features of fit"):
        part.learn(np.array([4]), {"Age": to_feature([3.0], "Age")}, 5)
    same(part.state(), before)


def test_a_row_does_not_depend_on_the_others():
    part = fitted()
    for row in range(4):
        alone = {name: column.take(np.array([row])) for name, column in COLUMNS.items()}
        assert np.array_equal(part.transform(alone, 1)[0], part.transform(COLUMNS, 4)[row])


@pytest.fixture(scope="module")
def texts():
    column = to_feature([*TITLES, None], "text", text=True)
    options = {"per_user": False, "text_components": 3, "make_encoder": make_encoder}
    return fitted({"text": column}, 7, **options), column


def test_texts_are_principal_components_of_their_vectors(texts):
    part, _ = texts
    vectors = make_encoder(TITLES).encode(TITLES).astype(np.float64)
    centred = vectors - vectors.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:3].T / sizes[0] * np.sqrt(len(TITLES))
    found = part.matrix(np.arange(6))[:, 1:]
    assert part.feature_names == ["1", "text0", "text1", "text2"]
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-4)
    assert np.isclose(found[:, 0].std(), 1)
    assert part.matrix(np.array([6])).tolist() == [[1, 0, 0, 0]]


def test_a_text_does_not_depend_on_the_others(texts):
    part, _ = texts
    new = ["Sabrina", "GoldenEye", "Balto"]
    together = part.transform({"text": to_feature(new, "text", text=True)}, 3)
    for row, title in enumerate(new):
        alone = part.transform({"text": to_feature([title], "text", text=True)}, 1)
        assert np.array_equal(alone[0], together[row])
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_state_holds_the_encoder(texts):
    part, _ = texts
    twin = SideFeatures(per_user=False, text_components=3)
    twin.load_state(from_plain(pickle.loads(pickle.dumps(to_plain(part.state())))))
    assert np.array_equal(twin.matrix(np.arange(7)), part.matrix(np.arange(7)))
    new = {"text": to_feature(["Sabrina"], "text", text=True)}
    assert np.array_equal(twin.transform(new, 1), part.transform(new, 1))


def test_fewer_texts_than_components(texts):
    _, column = texts
    few = {"text": column.take(np.array([0, 1, 1]))}
    part = fitted(few, 3, per_user=False, make_encoder=make_encoder)
    assert part.feature_names == ["1", "text0"]


def test_a_fit_to_no_rows_encodes_nothing(texts):
    _, column = texts
    nothing = np.empty(0, np.int64)
    columns = {name: one.take(nothing) for name, one in {**COLUMNS, "text": column}.items()}
    part = fitted(columns, 0, per_user=False, make_encoder=make_encoder)
    assert part.feature_names == ["1"]
    part.learn(np.arange(4), COLUMNS, 4)
    assert part.matrix(np.arange(4)).tolist() == [[1.0]] * 4


def test_texts_are_ignored_without_an_encoder(texts):
    _, column = texts
    part = fitted({"text": column}, 7, per_user=False)
    assert part.feature_names == ["1"]
    part.learn(np.array([7]), {"text": to_feature(["Sabrina"], "text", text=True)}, 8)
    assert part.matrix(np.array([7])).tolist() == [[1.0]]
