"""Every estimator of the package: scikit-learn's checks in full, then our own contract.

Estimators are discovered, and a new one has nothing to register: `small` makes an instance, and
its recommender tags say what the checks may ask of it. The tables below hold further
configurations, so that options are checked too.
"""

import inspect
import itertools
from collections import Counter
from unittest import SkipTest

import pytest
import sklearn
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

import sklearn_recft
from sklearn_recft import (
    ALSRecommender,
    BayesianMFRecommender,
    DecayBertRecommender,
    EASERecommender,
    FineTuning,
    IncrementalDCNClassifier,
    IncrementalDCNRecommender,
    IncrementalMFClassifier,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    RP3BetaRecommender,
    preprocessing,
)
from sklearn_recft.base import recommender_tags
from tests.contract.discovery import all_estimators, small
from tests.contract.featured import FeaturedRecommender
from tests.contract.recommender_adapt_checks import recommender_adapt_checks
from tests.contract.recommender_checks import recommender_checks
from tests.contract.recommender_reason_checks import recommender_reason_checks
from tests.contract.recommender_state_checks import recommender_state_checks
from tests.contract.recommender_update_checks import recommender_update_checks

_STOCHASTIC = {
    "check_sample_weight_equivalence_on_dense_data": (
        "A stochastic solver visits rows in random order: repeating a row draws another order "
        "than weighting it. scikit-learn expects the same of its SGD estimators."
    )
}
_TEXTS = dict.fromkeys(
    [
        "check_estimators_pickle",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_pipeline_consistency",
        "check_transformer_data_not_an_array",
        "check_transformer_general",
    ],
    "The check compares outputs by subtraction, and strings have none. Its own tests run it with "
    "a number for each text, where it passes.",
)
# Checks of scikit-learn that must fail, and why, by estimator.
EXPECTED_FAILURES = {
    "ActivityFeatures": dict.fromkeys(
        ["check_transformer_data_not_an_array", "check_transformer_general"],
        "fit_transform describes each row as of its own time, transform after the whole log: they "
        "differ on purpose, or features would know the future.",
    ),
    "BehaviorText": _TEXTS,
    "Pseudonymizer": _TEXTS,
    "GeoFeatures": dict.fromkeys(
        ["check_fit_check_is_fitted", "check_fit_idempotent", "check_n_features_in"],
        "The check's numbers are around 100, which is no latitude. Its own tests run it with a "
        "tenth of them, where it passes.",
    ),
    "ALSRecommender": {
        "check_sample_weight_equivalence_on_dense_data": (
            "Items start at random in the order of their first events, and a repeated row changes "
            "that order: the minimum found is another one of the same depth."
        )
    },
    "BayesianMFClassifier": {
        "check_sample_weight_equivalence_on_dense_data": (
            "Items start at random in the order of their first events, as in ALSRecommender."
        )
    },
    "AdaptiveRecommender": {
        "check_sample_weight_equivalence_on_dense_data": (
            "The weights learn from the last 20 % of the rows: repeating a row moves that border, "
            "and weighting it does not."
        )
    },
    "BayesianMFRecommender": {
        "check_sample_weight_equivalence_on_dense_data": (
            "Items start at random in the order of their first events, as in ALSRecommender."
        )
    },
}

# Further configurations for scikit-learn's checks. Left out, since the checks' tables do not meet
# their documented needs: loss="log_loss" (y from 0 to 1), half_life and window (a timestamp, where
# the checks give two columns). Our own contract below has them all: "log_loss" with the solver
# "sgd" by `IncrementalMFClassifier`, which has the same model.
CONFIGURATIONS = [
    small(
        DecayBertRecommender, backbone="scratch", decay="none", freeze=1, max_epochs=1,
        training=FineTuning(update_rate=0.1), net_params={"batch_size": 128},
    ),
    EASERecommender(reg=1.0, zero_diagonal=False),
    small(IncrementalMFRecommender, loss="bpr"),
    small(IncrementalMFRecommender, loss="softmax"),
    small(IncrementalMFRecommender, replay_size=20),
    small(IncrementalMFRecommender, solver="adam"),
    small(IncrementalMFRecommender, solver="adam", loss="bpr"),
    ItemKNNRecommender(similarity="bm25"),
    small(
        RealtimeTransformerRecommender, backbone="scratch", n_layers=1, max_epochs=1,
        training=FineTuning(freeze_blocks=1),
    ),
]  # fmt: skip
# As many as scikit-learn 1.9.1 has for a regressor; 1.7.0 has one less. A transformer: 12 less.
N_CHECKS = 58 if parse_version(sklearn.__version__) >= parse_version("1.9") else 57

_SGD = {"n_factors": 8, "max_epochs": 8, "random_state": 0}
_ADAM = {**_SGD, "solver": "adam", "max_epochs": 2}
_SEQUENCES = {
    "max_epochs": 2, "max_history": 20, "random_state": 0,
    "width": 16, "net_params": {"batch_size": 256},
}  # fmt: skip
_READERS = {"random_state": 0, "net_params": {"batch_size": 128}}  # fewer steps
_CROSSES = {"max_epochs": 2, "replay_size": 100, "net_params": {"batch_size": 128}}
# Further configurations for our own contract; one by the name of a class replaces `small` of it.
OPTIONS = {
    "recent popularity": PopularityRecommender(half_life=30, window=400),
    "knn": ItemKNNRecommender(n_neighbors=20, shrinkage=1.0),
    "knn with decay": ItemKNNRecommender(half_life=30),
    "knn bm25": ItemKNNRecommender(similarity="bm25", n_jobs=2),
    "knn next": ItemKNNRecommender(half_life=100, history_half_life=4),
    "ease": EASERecommender(reg=10.0),
    "ease next": EASERecommender(reg=10.0, history_half_life=4),
    "ease with decay": EASERecommender(reg=1.0, half_life=60, zero_diagonal=False, n_jobs=2),
    "RP3BetaRecommender": RP3BetaRecommender(n_neighbors=20),  # the default is for larger logs
    "rp3beta with decay": RP3BetaRecommender(0.7, 0.4, half_life=60, zero_diagonal=False, n_jobs=2),
    "ALSRecommender": small(ALSRecommender, reg=1.0),  # the default is for larger logs
    "als with decay": ALSRecommender(n_factors=8, reg=1.0, half_life=60, random_state=0, n_jobs=2),
    "sgd replay": IncrementalMFRecommender(**_SGD, replay_size=100, half_life=200),
    "sgd bpr": IncrementalMFRecommender(**_SGD, loss="bpr"),
    "sgd bpr with decay": IncrementalMFRecommender(
        **_SGD, loss="bpr", half_life=200, replay_size=100
    ),
    "sgd bpr with habits": IncrementalMFRecommender(**_SGD, loss="bpr", habit_half_life=90),
    "IncrementalDCNRecommender": small(IncrementalDCNRecommender, **_CROSSES),
    "IncrementalDCNClassifier": small(IncrementalDCNClassifier, **_CROSSES),
    "bayesian with features": small(FeaturedRecommender),
    "bayesian implicit": small(BayesianMFRecommender, loss="implicit"),
    "softmax": IncrementalMFRecommender(**_SGD, loss="softmax"),
    "softmax next": IncrementalMFRecommender(
        **_SGD, loss="softmax", history_half_life=2, half_life=200, habit_half_life=90
    ),
    "sgd": IncrementalMFRecommender(**_SGD),
    "sgd follow": IncrementalMFRecommender(**_SGD, drift="follow", replay_size=100),
    "adam": IncrementalMFRecommender(**_ADAM, replay_size=100),
    "adam log_loss": IncrementalMFRecommender(**_ADAM, loss="log_loss"),
    "adam bpr": IncrementalMFRecommender(**_ADAM, loss="bpr"),
    "RealtimeTransformerRecommender": RealtimeTransformerRecommender(**_SEQUENCES, n_layers=1),
    "DecayBertRecommender": small(DecayBertRecommender, max_epochs=2, **_READERS),
    "decay with texts": DecayBertRecommender("scratch", **_READERS),
    "decay that trains": DecayBertRecommender(
        "scratch", freeze=1, max_epochs=1, training=FineTuning(update_rate=0.1), **_READERS
    ),
    "transformer with texts and negatives": RealtimeTransformerRecommender(
        "scratch",
        **_SEQUENCES,
        decay="none",
        n_heads=1,
        n_negatives=20,
        query_time=False,
        training=FineTuning(freeze_blocks=1, update_epochs=2),
    ),
}
RECOMMENDERS = {
    name: small(cls) for name, cls in all_estimators().items() if hasattr(cls, "recommend")
} | OPTIONS
# Checks of what an estimator does around its net. It is the same code whatever the net reads, so
# they run on the configuration of the class alone: a net with texts takes long.
_AROUND_THE_NET = {
    "check_feedback_may_be_absent",
    "check_forget_says_what_it_did",
    "check_frame_equals_array",
    "check_lists_as_a_table",
    "check_lists_hold_the_best_eligible_items",
    "check_mapped_file_is_copied_on_write",
    "check_merge_of_other_logs_is_refused",
    "check_numpy_errors_change_nothing",
    "check_parameters_fixed_by_fit",
    "check_read_only_input_stays_as_it_is",
}
# `observe` and `adapt` train no net, and threads wait for the same locks whether a net trains.
_WITHOUT_TRAINING = {
    "check_failing_to_adapt_leaves_no_trace",
    "check_failing_to_observe_leaves_no_trace",
    "check_forgotten_users_are_unknown",
    "check_killed_on_known_ids_leaves_no_trace",
    "check_threads_read_while_a_model_adapts",
    "check_threads_share_a_model",
}
# Settings of the process that training might read: checked where the net trains in updates too.
_OF_TRAINING = {
    "check_default_dtype_of_torch_changes_nothing",
    "check_global_generators_are_left_alone",
    "check_gradients_off_change_nothing",
}
# A classifier differs from the recommender of its model by the loss and by labels alone: how its
# labels are read is checked in full, and what `observe`, locks, journals and lists do is not again.
# That it finds tastes is seen in tests/estimators/test_cross.py.
_WHATEVER_THE_LOSS = {
    "check_checkerboard",
    "check_frame_equals_array",
    "check_killed_leaves_no_trace",
    "check_lists_as_a_table",
    "check_lists_hold_the_best_eligible_items",
    "check_mapped_file_is_copied_on_write",
    "check_memory_is_bounded",
    "check_numpy_errors_change_nothing",
    "check_quality_on_a_small_log",
    *_OF_TRAINING,
    *_WITHOUT_TRAINING,
}
# What else a configuration leaves out, and the configuration of the same model that has it.
LEFT_OUT = {
    "IncrementalDCNClassifier": ("IncrementalDCNRecommender", _WHATEVER_THE_LOSS),
    "decay with texts": ("decay that trains", _OF_TRAINING),
    "decay that trains": ("decay with texts", _WITHOUT_TRAINING),
    "transformer with texts and negatives": (
        "RealtimeTransformerRecommender",
        _WITHOUT_TRAINING | {"check_memory_is_bounded"},
    ),
}
N_OUR_CHECKS = 69
OUR_CHECKS = [
    *recommender_checks(),
    *recommender_adapt_checks(),
    *recommender_update_checks(),
    *recommender_state_checks(),
    *recommender_reason_checks(),
]


def instances():
    """Return what scikit-learn's checks run on."""
    few = {DecayBertRecommender: {"net_params": {"batch_size": 128}}}
    return [*(small(cls, **few.get(cls, {})) for cls in all_estimators().values()), *CONFIGURATIONS]


def expected_failures(estimator):
    """Return the checks that must fail: a model that is not exact is taken to be stochastic."""
    found = EXPECTED_FAILURES.get(type(estimator).__name__)
    if found is not None or not hasattr(estimator, "recommend"):
        return found or {}
    return {} if recommender_tags(estimator).partial_fit.startswith("exact") else _STOCHASTIC


_checks = parametrize_with_checks(instances(), expected_failed_checks=expected_failures)
# Old versions of scikit-learn give a generator, which new versions of pytest refuse.
_PAIRS = list(_checks.args[1])


@pytest.mark.parametrize(_checks.args[0], _PAIRS, **_checks.kwargs)
def test_scikit_learn(estimator, check):
    """Every check of `check_estimator`, and none is skipped."""
    try:
        check(estimator)
    except SkipTest as skip:
        pytest.fail(f"scikit-learn skipped its check: {skip}")


def test_no_check_of_scikit_learn_is_left_out():
    counts = Counter(repr(getattr(pair, "values", pair)[0]) for pair in _PAIRS)
    for estimator in instances():
        assert counts[repr(estimator)] >= n_checks(estimator), estimator


def n_checks(estimator):
    """Return how many checks scikit-learn has for an estimator, at least."""
    return N_CHECKS - 12 * hasattr(estimator, "transform")


@pytest.mark.parametrize("name", all_estimators())
def test_estimator_is_public(name):
    cls = all_estimators()[name]
    assert name in sklearn_recft.__all__ or name in preprocessing.__all__
    assert len(inspect.signature(cls).parameters) <= 18


def test_every_loss_of_every_solver_is_checked():
    losses, solvers = ("squared_error", "log_loss", "bpr"), ("sgd", "adam")
    pairs = [*itertools.product(losses, solvers), ("softmax", "sgd")]
    for loss, solver in pairs:
        given = {"loss": loss, "solver": solver}
        assert any(given.items() <= options_of(model).items() for model in RECOMMENDERS.values())


def options_of(model):
    """Return the parameters of an estimator, with the loss of the classifier."""
    loss = {"loss": "log_loss"} if isinstance(model, IncrementalMFClassifier) else {}
    return model.get_params() | loss


def test_no_check_is_lost():
    assert len({check.__name__ for check in OUR_CHECKS}) == len(OUR_CHECKS) == N_OUR_CHECKS


def our_pairs():
    """Yield each configuration with each of its checks, all checks of one together."""
    for name, model in RECOMMENDERS.items():
        for check in OUR_CHECKS:
            if check.__name__ not in left_out(name, model):
                yield pytest.param(name, check, id=f"{name}-{check.__name__}")


def left_out(name, model):
    """Return the names of the checks that another configuration of the class runs instead."""
    has_texts = getattr(model, "backbone", None) is not None
    _, checks = LEFT_OUT.get(name, (None, set()))
    return checks | (_AROUND_THE_NET if has_texts else set())


def test_what_a_configuration_leaves_out_runs_on_another_of_its_class():
    known = {check.__name__ for check in OUR_CHECKS}
    for name, (other, checks) in LEFT_OUT.items():
        assert checks <= known
        ours, theirs = RECOMMENDERS[name], RECOMMENDERS[other]
        assert type(ours)._make_model is type(theirs)._make_model
        assert not checks & left_out(other, theirs)


def test_what_a_configuration_with_texts_leaves_out_runs_without():
    assert {check.__name__ for check in OUR_CHECKS} >= _AROUND_THE_NET
    with_texts = [m for m in RECOMMENDERS.values() if getattr(m, "backbone", None) is not None]
    assert len(with_texts) >= 3
    assert all(RECOMMENDERS[type(model).__name__].backbone is None for model in with_texts)


@pytest.mark.parametrize(("name", "check"), list(our_pairs()))
def test_contract(name, check):
    check(RECOMMENDERS[name])
