"""The classifier by matrix factorization: labels, probabilities, and scikit-learn's classifiers."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    TunedThresholdClassifierCV,
    cross_val_score,
)

from sklearn_recft import IncrementalMFClassifier, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import TemporalSplit, prequential_score

OPTIONS = {"n_factors": 4, "max_epochs": 10, "random_state": 0}
MODEL = IncrementalMFClassifier(**OPTIONS)


@pytest.fixture(scope="module")
def log():
    """Rows in order of time, labels "no" and "yes"."""
    X, y = make_interactions(40, 30, 2500, n_factors=2, noise=0.3, random_state=0, return_X_y=True)
    return X, np.where(y > np.median(y), "yes", "no")


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_it_is_the_regressor_with_log_loss(log, solver):
    X, label = log
    options = OPTIONS | {"solver": solver, "max_epochs": 3}
    model = IncrementalMFClassifier(**options).fit(X[:2000], label[:2000])
    code = (label == "yes").astype(float)
    twin = IncrementalMFRecommender(**options, loss="log_loss").fit(X[:2000], code[:2000])
    for _ in range(2):
        assert_array_equal(model.predict_proba(X)[:, 1], twin.predict(X))
        assert_array_equal(model.recommend([0, -1])[1], twin.recommend([0, -1])[1])
        assert_array_equal(model.user_factors_, twin.user_factors_)
        model.partial_fit(X[2000:2300], label[2000:2300])
        twin.partial_fit(X[2000:2300], code[2000:2300])
    said = model.partial_fit_predict_proba(X[2300:2400], label[2300:2400])
    assert_array_equal(said, twin.partial_fit_predict(X[2300:2400], code[2300:2400]))


def test_labels_and_probabilities(log):
    X, label = log
    model = clone(MODEL).fit(X[:2000], label[:2000])
    proba = model.predict_proba(X[2000:])
    assert_allclose(proba.sum(axis=1), 1)
    assert_array_equal(model.classes_, ["no", "yes"])
    assert_array_equal(model.predict(X[2000:]), np.where(proba[:, 1] > 0.5, "yes", "no"))
    assert model.score(X[2000:], label[2000:]) == (model.predict(X[2000:]) == label[2000:]).mean()
    assert roc_auc_score(label[2000:], proba[:, 1]) > 0.8


def test_classes_may_come_later():
    model = clone(MODEL).partial_fit([[0, 0], [1, 1]], ["yes", "yes"], classes=["yes", "no"])
    model.partial_fit([[0, 1]], ["no"])
    assert_array_equal(model.classes_, ["no", "yes"])
    with pytest.raises(ValueError, match="1 of 1 labels are neither 'no' nor 'yes'"):
        model.partial_fit([[0, 1]], ["maybe"])
    with pytest.raises(ValueError, match="y has one class only"):
        clone(MODEL).partial_fit([[0, 0]], ["yes"])
    with pytest.raises(ValueError, match="Only binary classification"):
        clone(MODEL).fit([[0, 0], [0, 1], [1, 1]], [0, 1, 2])


def test_clients_of_classifiers(log):
    """Calibration, thresholds, blends and scorers take it, on arrays and frames."""
    X, label = log
    cv = TemporalSplit(2)
    frame = pd.DataFrame(X[:, :3], columns=["user_id", "item_id", "timestamp"])
    for rows in (X, frame):
        calibrated = CalibratedClassifierCV(MODEL, cv=cv, method="isotonic").fit(rows, label)
        assert roc_auc_score(label, calibrated.predict_proba(rows)[:, 1]) > 0.8
        tuned = TunedThresholdClassifierCV(MODEL, cv=cv, scoring="balanced_accuracy")
        assert 0 < tuned.fit(rows, label).best_threshold_ < 1
    fixed = FixedThresholdClassifier(MODEL, threshold=0.9, pos_label="yes").fit(X, label)
    sure = fixed.estimator_.predict_proba(X)[:, 1] >= 0.9
    assert_array_equal(fixed.predict(X) == "yes", sure)
    assert sure.any()
    models = [("one", MODEL), ("other", clone(MODEL).set_params(n_factors=2))]
    voting = VotingClassifier(models, voting="soft").fit(X, label)
    parts = [clone(model).fit(X, label == "yes").predict_proba(X) for _, model in models]
    assert_allclose(voting.predict_proba(X), np.mean(parts, axis=0))
    stack = StackingClassifier(models, cv=3).fit(X, label)
    assert stack.predict_proba(X).shape == (len(X), 2)
    scores = cross_val_score(MODEL, X, label, cv=cv, scoring="roc_auc", error_score="raise")
    assert (scores > 0.7).all()


def test_displays(log):
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import DetCurveDisplay, PrecisionRecallDisplay, RocCurveDisplay

    X, label = log
    model = clone(MODEL).fit(X, label)
    displays = RocCurveDisplay, DetCurveDisplay, PrecisionRecallDisplay, CalibrationDisplay
    for display in displays:
        assert display.from_estimator(model, X, label, pos_label="yes").figure_ is not None
        pyplot.close("all")
    shown = RocCurveDisplay.from_estimator(model, X, label, pos_label="yes")
    pyplot.close("all")
    assert shown.roc_auc == pytest.approx(roc_auc_score(label, model.predict_proba(X)[:, 1]))


def test_a_prequential_evaluation_scores_its_probabilities(log):
    X, label = log
    y = (label == "yes").astype(int)
    options = {"warm_up": 1500, "chunk_size": 250, "scoring": ("auc", "log_loss", "recall")}
    learned, popular = (
        prequential_score(model, X, y, **options).metrics
        for model in (MODEL, PopularityRecommender())
    )
    assert learned["auc"] > popular["auc"] + 0.1
    assert 0 < learned["log_loss"] < np.log(2)
