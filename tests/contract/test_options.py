"""Every option of every estimator: wrong values are named, and change nothing."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

import sklearn_recft.estimators
from sklearn_recft import (
    DecayBertRecommender,
    FineTuning,
    IncrementalMFRecommender,
    RealtimeTransformerRecommender,
)
from tests.contract.discovery import default

ESTIMATORS = {
    name: getattr(sklearn_recft.estimators, name) for name in sklearn_recft.estimators.__all__
}
# Small and quick ones that are trained by a net.
NEURAL = {
    "decay": DecayBertRecommender(None, max_epochs=1, width=4, n_factors=2, random_state=0),
    "transformer": RealtimeTransformerRecommender(
        max_epochs=1, max_history=5, width=8, random_state=0
    ),
    "factorization": IncrementalMFRecommender(
        solver="adam", n_factors=2, max_epochs=1, random_state=0
    ),
}
# Options that take a value of almost any kind: what is wrong for them all the same.
WRONG_KINDS = ("no such value", [], {"a": 1}, 1.5, -3, object())
LAWFUL_KINDS = {
    "outcome": ("no such value",),  # the name of a column, which the rows do not have
    "class_weight": ({"a": 1},),
    "random_state": (),
    "n_jobs": (-3,),
    "trend_half_lives": ([],),
    "user_features": ([],),
    "item_features": ([],),
    "categorical": ([],),
    "lists": ([],),
    "hidden": ([],),
    "backbone": ("no such value",),
    "verbose": (1.5,),
}
WRONG_TRAINING = {
    "learning_rate": (0, -1, np.nan, np.inf), "backbone_rate": (-1,), "decay_rate": (-1,),
    "embedding_rate": (-0.1, np.inf), "weight_decay": (-0.1, np.inf), "warmup": (-0.1, 1.5),
    "schedule": ("cosine",), "clip": (0, -1, np.nan), "accumulate": (0, 2.0),
    "bf16": ("yes", 2), "adversarial": (-1, np.inf), "patience": (0, 1.5),
    "validation_fraction": (0, 1), "update_rate": (-0.1, np.nan), "update_epochs": (0, 1.5),
    "freeze_blocks": (-1, "none", 1.5), "lora_rank": (-1, 1.5), "average": (-0.1, 1.1, np.nan),
}  # fmt: skip


def make_log(n=120):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(8, size=n), rng.integers(6, size=n), np.arange(n)])
    return X, (rng.random(n) < 0.5).astype(float)


def options_of(cls):
    return list(inspect.signature(cls).parameters)


def assert_refused(model, name, match=None):
    """Fail to fit with an error that names the option; the model stays as it was."""
    X, y = make_log()
    before = sorted(vars(model))
    with pytest.raises((ValueError, TypeError), match=match or name):
        model.fit(X, y)
    assert sorted(vars(model)) == before
    with pytest.raises((ValueError, TypeError), match=match or name):
        model.partial_fit(X, y)
    assert sorted(vars(model)) == before


@pytest.mark.parametrize(
    ("name", "option"), [(name, o) for name, cls in ESTIMATORS.items() for o in options_of(cls)]
)
def test_a_wrong_kind_is_named_and_leaves_the_estimator_unfitted(name, option):
    cls = ESTIMATORS[name]
    lawful = LAWFUL_KINDS.get(option, ())
    constraints = cls._parameter_constraints[option]
    assert constraints, "every option is checked"
    n_refused = 0
    for value in WRONG_KINDS:
        real = isinstance(value, (int, float)) and "Interval" in str(constraints)
        strings = isinstance(value, str) and str in constraints
        if value in lawful or strings or real or (option == "net_params" and value == {"a": 1}):
            continue  # numbers are of the right kind; their bounds are tested below
        if option == "random_state" and isinstance(value, int):
            value = 1.5
        assert_refused(default(cls).set_params(**{option: value}), option)
        n_refused += 1
    assert n_refused


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        (name, option, value)
        for name, cls in ESTIMATORS.items()
        for option, constraints in cls._parameter_constraints.items()
        for bounds in [[c for c in constraints if hasattr(c, "closed")]]
        for value in (
            [bounds[0].left - 1 if bounds[0].left is not None else -np.inf, np.nan]
            if bounds
            else ()
        )
    ],
)
def test_a_value_out_of_bounds_is_named(name, option, value):
    assert_refused(default(ESTIMATORS[name]).set_params(**{option: value}), option)


@pytest.mark.parametrize("option", options_of(FineTuning))
@pytest.mark.parametrize("name", NEURAL)
def test_an_option_of_training_is_checked_or_refused(name, option):
    model, (X, y) = clone(NEURAL[name]), make_log()
    assert set(WRONG_TRAINING) == set(options_of(FineTuning))
    for value in (*WRONG_TRAINING[option], [], {}, object()):
        model.set_params(training=FineTuning(**{option: value}))
        assert_refused(model, option)
    # A fitted one goes on as it was.
    model.set_params(training=None).fit(X, y)
    before = pickle.dumps(model.predict(X))
    model.set_params(**{f"training__{option}": WRONG_TRAINING[option][0]})
    with pytest.raises(ValueError, match=option):
        model.fit(X, y)
    assert pickle.dumps(model.predict(X)) == before


@pytest.mark.parametrize("name", NEURAL)
def test_an_option_that_an_estimator_does_not_have_lists_those_it_has(name):
    foreign = {"decay": "freeze_blocks", "transformer": "lora_rank", "factorization": "decay_rate"}
    model = clone(NEURAL[name]).set_params(training=FineTuning(**{foreign[name]: 1}))
    assert_refused(model, f"no option {foreign[name]}; .*warmup.*clip.*update_rate")


@pytest.mark.parametrize(("name", "cls"), ESTIMATORS.items())
def test_at_most_18_options(name, cls):
    assert len(options_of(cls)) <= 18
    assert set(options_of(cls)) == set(cls._parameter_constraints)


def test_the_options_of_training_are_documented_and_checked():
    assert set(options_of(FineTuning)) == set(FineTuning._parameter_constraints)
    assert all(f"\n    {name} : " in FineTuning.__doc__ for name in options_of(FineTuning))
    assert all(value is None for value in FineTuning().get_params().values())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_true_is_no_number(name):
    for option, constraints in ESTIMATORS[name]._parameter_constraints.items():
        if any(hasattr(c, "closed") for c in constraints):
            model = default(ESTIMATORS[name]).set_params(**{option: True})
            assert_refused(model, f"{option}=True|{option}")


@pytest.mark.parametrize("name", NEURAL)
def test_numbers_of_numpy_are_those_of_python(name):
    (X, y), models = make_log(), []
    for make in (int, np.int64):
        model = clone(NEURAL[name]).set_params(
            max_epochs=make(1), net_params={"batch_size": make(8)}
        )
        known = model.get_params()
        model.set_params(**{n: make(2) for n in ("n_heads", "n_factors", "n_layers") if n in known})
        models.append(model.fit(X, y).partial_fit(X + 1, y))
    assert_array_equal(models[0].predict(X), models[1].predict(X))


# ------------------------------------------------------------------------------- net_params


@pytest.mark.parametrize("name", NEURAL)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_epochs": 4}, "'max_epochs' is the estimator's own: set its parameter max_epochs"),
        ({"verbose": 1}, "set its parameter verbose"),
        ({"n_jobs": 1}, "set its parameter n_jobs"),
        ({"warmup": 0.1}, r"'warmup' belongs in training=FineTuning\(warmup=...\)"),
        ({"patience": 1, "clip": 1}, r"FineTuning\(patience=...\).*FineTuning\(clip=...\)"),
        ({"module": None}, "'module' is set by the estimator"),
        ({"module__width": 3}, "'module__width' is set by the estimator"),
        ({"criterion": None}, "'criterion' is set by the estimator"),
        ({"optimiser": None}, "'optimiser' is unknown .did you mean optimizer?"),
        ({"nonsense": 3}, "'nonsense' is unknown"),
        ({3: 3}, "3 is unknown"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "many"}, "batch_size='many'"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"device": "cuda:99"}, "device='cuda:99', but torch finds .* CUDA devices"),
        ({"optimizer": "sgd"}, "optimizer='sgd'; it must be an optimizer class of torch"),
        ({"optimizer": None}, "optimizer=None; it must be"),
        ({"train_split": 0.5}, "train_split=0.5; it must be a callable"),
        ({"dataset": 3}, "dataset=3; it must be a class"),
        ({"iterator_train": "x"}, "iterator_train='x'; it must be a class"),
        ({"iterator_train__bogus": 1}, "'iterator_train__bogus' is unknown; .*shuffle"),
        ({"callbacks": [3]}, r"callbacks=\[3\]; it must be a list of callbacks"),
        ({"callbacks": "x"}, "callbacks='x'; it must be a list of callbacks"),
        ({"callbacks": EarlyStopping}, "it must be a list of callbacks"),
        ({"callbacks__x": 1}, "'callbacks__x' names no callback; there are epoch_timer"),
        ({f"name_{n}": 0 for n in range(99)}, "and 96 more"),
    ],
    ids=str,
)
def test_net_params_hold_names_of_skorch_only(name, given, message):
    model = clone(NEURAL[name]).set_params(net_params=given)
    assert_refused(model, message)
    with pytest.raises(ValueError, match="net_params: ") as caught:
        model.fit(*make_log())
    assert len(str(caught.value)) < 500
    if len(given) == 1:
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("decay", {"lr": 0.1}, r"'lr' belongs in training=FineTuning\(learning_rate=...\)"),
        ("transformer", {"lr": 1}, r"'lr' belongs in training=FineTuning\(learning_rate=...\)"),
        ("decay", {"optimizer__lr": 1}, r"FineTuning\(learning_rate=...\)"),
        ("factorization", {"lr": 0.1}, "'lr' is the estimator's own: .*parameter learning_rate"),
        ("decay", {"n_factor": 3}, "did you mean n_factors?"),
        ("transformer", {"width": 8}, "set its parameter width"),
    ],
)
def test_what_belongs_elsewhere_is_sent_there(name, given, message):
    assert_refused(clone(NEURAL[name]).set_params(net_params=given), message)


@pytest.mark.parametrize("name", NEURAL)
def test_lawful_net_params_are_accepted(name):
    twice = [Rates(), Rates, ("mine", Rates())]
    for given in (
        {"callbacks": twice, "callbacks__Rates_2": None, "train_split": None},
        {"callbacks__print_log": None, "iterator_train__shuffle": False, "device": "cpu"},
        {"optimizer": torch.optim.NAdam, "optimizer__momentum_decay": 0.5},
    ):
        model = clone(NEURAL[name]).set_params(net_params=given).fit(*make_log())
        assert np.isfinite(model.predict(make_log()[0])).all()


@pytest.mark.parametrize("name", NEURAL)
def test_patience_overwrites_nothing(name):
    model = clone(NEURAL[name]).set_params(training__patience=1)
    for given in (
        {"train_split": lambda *a, **k: None}, {"callbacks": [EarlyStopping()]},
        {"callbacks": [("stop", EarlyStopping)]},
    ):  # fmt: skip
        assert_refused(model.set_params(net_params=given), "patience exclude each other")


class Rates(Callback):
    """Notes the first group's learning rate that each epoch is trained at."""

    def on_train_begin(self, net, **kwargs):
        self.rates = []

    def on_grad_computed(self, net, **kwargs):
        self.rates.append(net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize("name", NEURAL)
def test_a_scheduler_of_the_user_sets_the_learning_rates(name):
    watch = Rates()
    steps = LRScheduler("StepLR", step_size=1, gamma=0.1)
    model = clone(NEURAL[name]).set_params(
        max_epochs=3, net_params={"batch_size": 10**4, "callbacks": [watch, steps]}
    )
    model.fit(*make_log())
    rates = np.array(watch.rates)
    np.testing.assert_allclose(rates / rates[0], [1, 0.1, 0.01])


# ------------------------------------------------------------------------------- set and search


@pytest.mark.parametrize("name", NEURAL)
def test_training_is_set_by_name_where_it_is_none(name):
    model, other = clone(NEURAL[name]), clone(NEURAL[name])
    assert model.training is None
    assert model.set_params(training__warmup=0.25, max_epochs=2) is model
    assert (model.training.warmup, model.max_epochs) == (0.25, 2)
    assert clone(model).get_params()["training__warmup"] == 0.25
    assert other.training is None
    model.set_params(training__clip=3.0)
    assert (model.training.warmup, model.training.clip) == (0.25, 3.0)
    with pytest.raises(ValueError, match="'warm_up'"):
        other.set_params(training__warm_up=0.25)
    assert other.training is None


def test_an_estimator_without_training_has_no_options_of_it():
    with pytest.raises(ValueError, match="Invalid parameter 'training'"):
        sklearn_recft.PopularityRecommender().set_params(training__warmup=0.25)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("decay", "learning_rate", [1e-4, 0.05]), ("transformer", "learning_rate", [1e-4, 0.05]),
        ("factorization", "weight_decay", [0.0, 9.0]),
    ],
)  # fmt: skip
def test_grid_search_over_training(name, option, values):
    X, y = make_log()
    model = clone(NEURAL[name]).set_params(max_epochs=4)
    search = GridSearchCV(
        model, {f"training__{option}": values}, cv=TimeSeriesSplit(2), error_score="raise",
        scoring=lambda model, X, y: float(np.mean(model.predict(X))),
    )  # fmt: skip
    search.fit(X, y)
    assert getattr(search.best_estimator_.training, option) in values
    assert model.training is None
    one, other = (clone(model).set_params(**p).fit(X, y) for p in search.cv_results_["params"])
    weights = [np.concatenate([p.detach().numpy().ravel() for p in m.module_.parameters()])
               for m in (one, other)]  # fmt: skip
    assert (weights[0] != weights[1]).any()
    again = clone(one).fit(X, y)
    assert_array_equal(again.predict(X), one.predict(X))


@pytest.mark.parametrize(
    "name", [n for n, cls in ESTIMATORS.items() if "max_history" in default(cls).get_params()]
)
def test_a_history_longer_than_any_log_is_named(name):
    model = default(ESTIMATORS[name]).set_params(max_history=10**30)
    with pytest.raises(ValueError, match="max_history"):
        model.fit([["ann", "tea"], ["ann", "milk"], ["bob", "tea"]])
