"""Binary labels and class weights."""

import pickle

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from sklearn_recft import DecayBertRecommender, IncrementalMFClassifier
from sklearn_recft.estimators._labels import class_weights, encode_labels
from tests.contract.discovery import small


@pytest.mark.parametrize(
    "values",
    [(0, 1), (-1, 1), (1, 5), (0.0, 1.0), (False, True), ("no", "yes"), ("b", "a")],
    ids=str,
)
def test_labels_are_indices_of_the_classes(values):
    y = np.array(values)[[1, 0, 0, 1, 1]]
    classes, code = encode_labels(y, None)
    assert classes.tolist() == sorted(values)
    assert code.dtype == np.float64
    assert classes[code.astype(int)].tolist() == y.tolist()
    for later in (y[:1], y[1:2], y):
        known, again = encode_labels(later.tolist(), classes)
        assert known is classes
        assert classes[again.astype(int)].tolist() == later.tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2, 2], r"binary.*3 classes.*\[0, 1, 2\].*y >= 4"),
        ([3, 3, 3], r"one class only, 3"),
        ([], r"0 sample|empty"),
        (1, r"1d array"),
        ([[0, 1], [1, 0]], r"1d array"),
        ([0.0, 1.0, np.nan], r"Input y.*1 of 3.*NaN"),
        ([0.0, np.inf], r"Input y.*inf"),
        ([0.5, 1.7, 0.2], r"[Uu]nknown label type"),
    ],
    ids=str,
)
def test_labels_of_other_than_two_classes_raise(y, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(y, None)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 5, 3, 9], r"2 of 4 labels are neither .*1.* nor .*5.*first is .*3.*as classes="),
        ([0], r"1 of 1 labels"),
        (["1", "5"], r"2 of 2 labels"),
        (np.array(["1", "5"], object), r"2 of 2 labels"),
    ],
    ids=str,
)
def test_an_unknown_later_label_raises(y, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(y, np.array([1, 5]))


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5}, {1: 2.0}], ids=str)
def test_class_weights_equal_those_of_scikit_learn(class_weight):
    classes, code = np.array([0, 1]), np.array([0.0, 1, 1, 1, 0, 1, 1])
    expected = compute_class_weight(class_weight, classes=classes, y=code.astype(int))
    assert class_weights(class_weight, classes, code).tolist() == expected.tolist()


def test_class_weights_are_by_label():
    code = np.array([0.0, 1, 1])
    assert class_weights({"no": 2.0}, np.array(["no", "yes"]), code).tolist() == [2, 1]


def test_positives_only_have_weight_one():
    assert class_weights("balanced", np.array([0, 1]), None).tolist() == [1, 1]


@pytest.mark.parametrize("weight", [-1, np.nan, 0, np.inf, None, "many"])
@pytest.mark.parametrize("code", [None, np.array([0.0, 1])], ids=["positives", "labels"])
def test_a_class_weight_that_is_no_weight_is_named(weight, code):
    with pytest.raises(ValueError, match=r"^class_weight=.* is no weight; give a finite number"):
        class_weights({0: weight, 1: 2}, np.array([0, 1]), code)


def test_balanced_weights_need_both_classes():
    with pytest.raises(ValueError, match="class_weight='balanced' needs rows of both classes"):
        class_weights("balanced", np.array(["no", "yes"]), np.ones(3))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([False, True, True], [False, True]),
        ([np.True_, False, True], [False, True]),
        ([1, 5, 5], [1, 5]),
        ([0.0, 1, np.int8(1)], [0.0, 1.0]),
    ],
    ids=str,
)
def test_objects_may_be_booleans_or_numbers(labels, expected):
    """Frames often hold them so, for example after a merge."""
    y = np.fromiter(labels, object, 3)
    classes, code = encode_labels(y, None)
    assert classes.tolist() == expected
    assert classes.dtype.kind == np.array(expected).dtype.kind
    assert code.tolist() == (y == expected[1]).tolist()
    X = [[0, 0], [0, 1], [1, 1]]
    model = IncrementalMFClassifier(n_factors=2, random_state=0).fit(X, y)
    assert model.score(X, y) == np.mean(model.predict(X) == y)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["no", "yes", None], "y: 1 of 3 rows are missing"),
        (["no", np.nan, "yes"], "y: 1 of 3 rows are missing"),
        ([True, "yes", False], "y: the 3 labels are of several types, bool, str"),
        ([True, 0, 1], "y: the 3 labels are of several types, bool, int"),
    ],
    ids=str,
)
def test_missing_and_mixed_labels_raise(labels, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(np.fromiter(labels, object, 3), None)


@pytest.mark.parametrize("cls", [IncrementalMFClassifier, DecayBertRecommender])
def test_classes_are_two_labels_and_do_not_change(cls):
    model = small(cls)
    X, later = [[0, 0], [1, 1]], [[0, 1], [1, 0]]
    for classes, message in (
        (["yes", "yes"], "are not two labels"),
        ([1.0, np.nan], "Input classes: 1 of 2 rows are NaN"),
        (np.array(["yes", None], object), "classes: 1 of 2 rows are missing"),
    ):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, ["yes", "yes"], classes=classes)
    model.partial_fit(X, ["yes", "yes"], classes={"yes", "no"})
    assert model.classes_.tolist() == ["no", "yes"]
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=r"classes=\['a', 'b'\] are not those .* \['no', 'yes'\]"):
        model.partial_fit(later, ["a", "b"], classes=["b", "a"])
    assert pickle.dumps(model) == before
    model.partial_fit(later, ["yes", "no"], classes=["yes", "no"])
