"""The contract of the fitted model: saved, erased, merged, shared by threads, and read purely."""

import copy
import io
import os
import pickle
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from threading import Event, Thread

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_recft import FineTuning, load, trusted_types
from sklearn_recft.base import RecommenderMixin, recommender_tags
from sklearn_recft.models import AdaptiveModel
from sklearn_recft.text import PretrainedBackbone, pretrain
from sklearn_recft.vocabulary import Vocabulary
from tests.contract.helpers import (
    DAY,
    PAIRS,
    answers,
    as_table,
    assert_same,
    fit,
    fitted,
    for_target,
    make_log,
    make_news,
    memory,
    observe,
    predict,
    update,
)

# ----------------------------------------------------------------- state and load_state


def check_state_round_trip(estimator):
    """A model that is loaded from a state answers and learns on, to the last bit."""
    model, later = update(fitted(estimator), *make_news()), make_later_news()
    expected, state = answers(model), model._model.state()
    assert_plain(state, "state")
    kept = pickle.dumps(state)
    twin = loaded(model, pickle.loads(kept))
    assert_array_equal(answers(twin), expected)
    assert_same(twin._model.state(), state, "state")
    update(model, *later)
    assert_array_equal(answers(update(twin, *later)), answers(model))
    # Neither the model that was saved nor the one that was loaded writes to the state.
    assert_same(state, pickle.loads(kept), "state")
    update(loaded(model, state), *later)
    assert_same(state, pickle.loads(kept), "state")


class _Recording(pickle.Unpickler):
    """Unpickle, and note the packages of all classes and functions that are called."""

    def __init__(self, file):
        super().__init__(file)
        self.packages = set()

    def find_class(self, module, name):
        self.packages.add(module.partition(".")[0])
        return super().find_class(module, name)


def check_a_pickle_is_of_arrays(estimator):
    """No tensor, net or optimizer is pickled, whose format belongs to another package."""
    reader = _Recording(io.BytesIO(pickle.dumps(fitted(estimator))))
    reader.load()
    own = type(estimator).__module__.partition(".")[0]
    assert reader.packages <= {"builtins", "numpy", "sklearn_recft", own}


def check_a_skops_file_holds_the_whole_model(estimator):
    """A model that skops loads, with the types that we name, answers and learns on alike."""
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    model = fitted(estimator)
    file, own = skops.dumps(model), type(estimator).__module__.partition(".")[0]
    trusted = trusted_types()
    if own != "sklearn_recft":  # an estimator of another package: its author names its types
        found = skops.get_untrusted_types(data=file)
        trusted += [name for name in found if name.partition(".")[0] == own]
    twin = skops.loads(file, trusted=trusted)
    assert_array_equal(answers(twin), answers(model))
    assert_array_equal(answers(update(twin, *make_news())), answers(update(model, *make_news())))


def check_a_saved_folder_holds_the_whole_model(estimator):
    """A model that `load` makes answers and learns on alike, and its digest is the same."""
    model = fitted(estimator)
    if type(model).__module__.partition(".")[0] != "sklearn_recft":  # it is no kind of a file
        with tempfile.TemporaryDirectory() as folder:
            with pytest.raises(TypeError, match="cannot be saved: save estimators of this"):
                model.save(f"{folder}/first")
            assert not os.listdir(folder)
        if type(model).__base__ is RecommenderMixin:
            return
        model.__class__ = type(model).__base__
    with tempfile.TemporaryDirectory() as folder:
        digest = model.save(f"{folder}/first")
        mapped = update(load(f"{folder}/first", mmap=True), *make_news())
        assert mapped.save(f"{folder}/mapped") != digest
        twin = load(f"{folder}/first", expect=type(model), digest=digest)
        assert twin.save(f"{folder}/again") == digest
        assert_array_equal(answers(twin), answers(model))
        for one in (model, twin):
            update(one, *make_news())
            if hasattr(one, "observe"):
                observe(one, *make_later_news())
            one.forget(one.user_ids_[:2])
        assert_array_equal(answers(twin), answers(model))
        # The state does not depend on when a log was sorted.
        assert twin.save(f"{folder}/first") == model.save(f"{folder}/again")


def check_state_of_another_kind_is_refused(estimator):
    model = fitted(estimator)
    before, state = answers(model), model._model.state()
    with pytest.raises(ValueError, match="The state is of a 'another'"):
        model._model.load_state({**state, "kind": "another"})
    assert_array_equal(answers(model), before)


def loaded(model, state):
    """Return a copy of a fitted estimator, around a new model that is loaded from a state."""
    X, y = make_log()
    twin = copy.copy(model)
    rows = twin._check(X[:1], for_target(model, y[:1]), None, reset=False)
    twin._model = type(model._model)(rows, model._model.settings)
    twin._model.load_state(state)
    return twin


def make_later_news():
    """Rows after those of `make_news`."""
    X, y = make_log(50, seed=2)
    return X + np.array([5, 12, 3 * 366 * DAY]), y


def assert_plain(value, path):
    """Check that a state holds plain values, lists, dicts with str keys and arrays alone."""
    if isinstance(value, dict):
        for name, inner in value.items():
            assert type(name) is str, f"{path}: the key {name!r} is not a str"
            assert_plain(inner, f"{path}[{name!r}]")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            assert_plain(inner, f"{path}[{place}]")
    elif isinstance(value, np.ndarray):
        assert type(value) is np.ndarray, f"{path} is a {type(value).__name__}"
        assert value.dtype != object, f"{path} is an array of objects"
    else:
        assert value is None or type(value) in (bool, int, float, str, bytes), (
            f"{path} is a {type(value).__name__}"
        )


# -------------------------------------------------------------------------------- forget


def check_forgotten_users_are_unknown(estimator):
    (X, y), model, gone = make_log(), fitted(estimator), _users_to_forget()
    users = model.user_ids_.copy()
    others = np.setdiff1d(users, gone)
    before = _answers_to(model, others)
    assert model.forget([*gone, 999]) is model  # unknown ids are passed over
    assert_array_equal(model.user_ids_, users[~np.isin(users, gone)])
    assert model.n_users_ == len(users) - len(gone)
    for n, exclude_seen in ((35, False), (9, True)):
        lists = model.recommend([*gone, -1], n_recommendations=n, exclude_seen=exclude_seen)
        for part in lists:
            assert_array_equal(part, np.tile(part[-1], (len(part), 1)))
    asked = PAIRS[:50]
    unknown = predict(model, np.column_stack([np.full(50, -1), asked[:, 1:]]))
    for user in gone:
        found = predict(model, np.column_stack([np.full(50, user), asked[:, 1:]]))
        assert_array_equal(found, unknown)
    if hasattr(model, "attend"):
        rows = X[np.isin(X[:, 0], gone)]
        rows[:, 2] = PAIRS[0, 2]
        assert (model.attend(rows).item_ids == None).all()  # noqa: E711
    _check_others(estimator, model, others, before)
    kept = np.isin(X[:, 0], others)
    update(model, X[~kept], y[~kept])
    assert set(model.user_ids_) == set(users)
    assert np.isfinite(answers(update(model, *make_news()))).all()
    again = loaded(model, model._model.state())
    assert_array_equal(answers(again), answers(model))


def _check_others(estimator, model, others, before):
    """Check what the users that were not erased are told."""
    after = _answers_to(model, others)
    if recommender_tags(estimator).forget == "exact" or isinstance(model._model, AdaptiveModel):
        assert np.isfinite(after).all()  # exact: the next check compares them
    else:
        assert_array_equal(after, before)  # rows of parameters are gone, the others stay


def check_exact_models_equal_a_fit_without_the_forgotten(estimator):
    """As if they had never come, also after updates: the level that the tags name is true."""
    if recommender_tags(estimator).forget != "exact":
        return
    X, y, gone = _log_that_ends_with_them()
    rest, half = ~np.isin(X[:, 0], gone), len(X) // 2
    model = update(fit(estimator, X[:half], y[:half]), X[half:], y[half:]).forget(gone)
    assert model.forget_receipt_.level == "exact"
    expected = fit(estimator, X[rest], y[rest])
    assert_array_equal(model.item_ids_, expected.item_ids_)
    others = expected.user_ids_
    after, wanted = _answers_to(model, others), _answers_to(expected, others)
    assert_allclose(after, wanted, rtol=1e-10, atol=1e-10)
    news = make_news()
    after, wanted = (_answers_to(update(m, *news), others) for m in (model, expected))
    assert_allclose(after, wanted, rtol=1e-6, atol=1e-6)


def _log_that_ends_with_them():
    """Return a log and two users whose rows are the last, so that items keep their order."""
    (X, y), gone = make_log(), _users_to_forget()
    last = np.isin(X[:, 0], gone)
    order = np.r_[np.flatnonzero(~last), np.flatnonzero(last)]
    return X[order], y[order], gone


def check_forget_says_what_it_did(estimator):
    model = fitted(estimator)
    seen = len(np.unique(make_log()[0][np.isin(make_log()[0][:, 0], [3, 7]), :2], axis=0))
    receipt = model.forget([3, 7, 999]).forget_receipt_
    assert receipt.level == recommender_tags(estimator).forget
    assert (receipt.n_users, receipt.n_items, receipt.n_rows) == (2, 0, 0)
    assert (receipt.removed["users"], receipt.removed["seen"]) == (2, seen)
    assert receipt.seconds > 0
    assert f"{receipt.level}: 2 users" in str(receipt)
    assert model.forget([3]).forget_receipt_.removed == {}
    assert pickle.loads(pickle.dumps(model)).forget_receipt_ == model.forget_receipt_


def check_items_are_forgotten_or_the_refusal_says_why(estimator):
    model = fitted(estimator)
    before, level = memory(model), model._model.forget_items_level
    if not level:
        with pytest.raises(ValueError, match=r"forget_items: .* refit with .*unlearn"):
            model.forget_items([5, 11])
        assert memory(model) == before
        return
    (X, y), gone = make_log(), ["item number 5", "item number 11"]
    named = as_table(X[:, 0], [f"item number {code}" for code in X[:, 1]], X[:, 2])
    model, rest = fit(estimator, named, y), ~np.isin(X[:, 1], [5, 11])
    before = memory(model)
    with pytest.raises(ValueError, match="all 40 items"):
        model.forget_items(model.item_ids_)
    assert memory(model) == before
    assert model.forget_items([*gone, "no item"]) is model
    assert model.forget_receipt_.level == level
    assert (model.n_items_, model.forget_receipt_.n_items) == (38, 2)
    assert gone[0].encode() not in memory(model)
    assert set(model.recommend([3], n_recommendations=38, exclude_seen=False)[0][0]) == set(
        model.item_ids_
    )
    rows = named[rest]
    if level == "exact":
        expected = fit(estimator, rows, y[rest])
        assert_allclose(predict(model, rows), predict(expected, rows), rtol=1e-10, atol=1e-10)
    assert np.isfinite(predict(update(model, named, y), named)).all()


def _users_to_forget():
    """Return two users without whom all items and the newest event remain."""
    X, _ = make_log()
    rest = X[~np.isin(X[:, 0], [3, 7])]
    assert set(rest[:, 1]) == set(X[:, 1])
    assert rest[-1, 2] == X[:, 2].max()
    return [3, 7]


def _answers_to(model, users):
    """Return predictions for 40 items and the lists of some users, in one vector."""
    items, time = np.arange(40), PAIRS[0, 2]
    rows = np.array([(user, item, time) for user in users for item in items])
    lists = model.recommend(users, n_recommendations=5)
    return np.concatenate([predict(model, rows), *map(np.ravel, lists)])


def check_nothing_of_a_forgotten_id_remains(estimator):
    """Whoever reads the memory of a model finds no erased id."""
    X, y = make_log()
    named = as_table([f"user number {code}" for code in X[:, 0]], X[:, 1], X[:, 2])
    model = fit(estimator, named, y)
    assert b"user number 3" in pickle.dumps(model)
    model.forget(["user number 3"])
    assert b"user number 4" in pickle.dumps(model)
    assert b"user number 3" not in pickle.dumps(model)


def check_forgetting_everyone_leaves_the_items(estimator):
    model = fitted(estimator)
    model.forget(model.user_ids_)
    assert (model.n_users_, model.n_items_) == (0, 40)
    assert np.isfinite(model.recommend([3], n_recommendations=40)[1]).all()
    said = predict(model, np.vstack([make_log()[0], PAIRS]))
    assert np.isfinite(said).all()
    items, times = make_log()[0][:, 1:].T
    unknown = np.column_stack([np.full(len(items), 999), items, times])
    assert_array_equal(said[: len(items)], predict(model, unknown))
    update(model, *make_log())
    assert np.isfinite(answers(model)).all()


# ------------------------------------------------- parameters that are changed after fit


def check_parameters_fixed_by_fit(estimator):
    """Answers never move with them, and a model that would need others refuses to go on."""
    model = fitted(estimator)
    news, expected, state = make_news(), answers(model), model._model.state()
    for name in model._fixed_names():
        given = getattr(model, name)
        for changed in other_values(estimator, name):
            model.set_params(**{name: changed})
            assert_array_equal(answers(model), expected, err_msg=f"{name}={changed!r}")
            _refuses(model, name, news, state)
        model.set_params(**{name: given})
    if "training" in model._fixed_names():
        given = clone(estimator).training
        model.set_params(training__weight_decay=0.375)
        assert_array_equal(answers(model), expected)
        _refuses(model, "training", news, state)
        model.set_params(training=given)
    assert_array_equal(answers(update(model, *news)), answers(update(fitted(estimator), *news)))


def check_updates_validate_parameters(estimator):
    """Bogus values that are set after fit are refused by every verb that learns."""
    model, (X, y) = fitted(estimator), make_news()
    before = answers(model)
    verbs = [v for v in ("observe", "adapt", "partial_fit") if hasattr(model, v)]
    for name in estimator.get_params(deep=False):
        given = getattr(model, name)
        model.set_params(**{name: object()})
        for verb in verbs:
            with pytest.raises(ValueError, match=name):
                getattr(model, verb)(X, for_target(model, y))
        model.set_params(**{name: given})
    assert_array_equal(answers(model), before)
    update(model, X, y)


def _refuses(model, name, news, state):
    """Check that the model does not learn while a parameter says otherwise than in `fit`."""
    for verb in ("partial_fit", "observe", "adapt"):
        if hasattr(model, verb):
            with pytest.raises(ValueError, match=rf"(?s)^{name}=.* was set after fit"):
                getattr(model, verb)(news[0], for_target(model, news[1]))
            assert_same(model._model.state(), state, name)


def other_values(estimator, name):
    """Return valid values of a parameter other than the one it has, by its constraints."""
    now = getattr(estimator, name)
    if name == "estimators":
        return [now[:1]]
    found = [
        value
        for constraint in estimator._parameter_constraints[name]
        for value in _values_of(constraint)
        if type(value) is not type(now) or value != now
    ]
    assert found, f"no other value of {name} is known"
    return found[:2]


def _values_of(constraint):
    """Return some values that satisfy a constraint of scikit-learn."""
    if isinstance(constraint, Interval):
        values = (2, 3, 1) if constraint.type is Integral else (0.5, 0.25)
        return [value for value in values if value in constraint]
    if isinstance(constraint, StrOptions):
        return sorted(constraint.options)
    if constraint is PretrainedBackbone:
        return [pretrain("scratch", ["green tea", "black tea"], max_epochs=1, random_state=0)]
    known = {
        "boolean": [True, False], "array-like": [(1.0,)], None: [None], str: ["scratch"],
        dict: [{"batch_size": 7}], list: [["size"]], tuple: [("size",)],
        FineTuning: [FineTuning(weight_decay=0.375)],
    }  # fmt: skip
    return known[constraint]


# ------------------------------------------------------------------------------- threads

_N_READERS, _N_CHUNKS = 2, 4
_PATIENCE = 30  # seconds that nothing here takes, unless it hangs


@contextmanager
def _quick_switches():
    """Switch threads every 0.1 ms: they meet at more lines, and who writes waits less for them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def check_threads_share_a_model(estimator):
    """Each answer is that of one state: before or after a chunk, never of one in between."""
    model = fitted(estimator)
    chunks = [_chunk(number) for number in range(_N_CHUNKS)]
    states = [_asked(model)]
    for twin in [copy.deepcopy(model)]:
        states += [_asked(update(twin, *chunk)) for chunk in chunks]
    assert len(set(states)) == len(states)
    _run_threads(model, [], states[:1])
    _run_threads(model, chunks, states)
    assert _asked(model) == states[-1]


def _run_threads(model, chunks, states, learn=update):
    """Read, pickle and write at once; check that all that was read is of one of the states."""
    done = Event()
    predictions, lists = (set(parts) for parts in zip(*states, strict=True))

    def write():
        try:
            for chunk in chunks:
                learn(model, *chunk)
        finally:
            done.set()

    def read():
        found = []
        while len(found) < 3 or not done.is_set():
            found.append(_asked(model))
        return found

    def save():
        found = []
        while len(found) < 2 or not done.is_set():
            found.append(pickle.dumps(model))
        return [_asked(pickle.loads(pickled)) for pickled in found[:3]]

    with _quick_switches(), ThreadPoolExecutor(_N_READERS + 2) as pool:
        readers = [pool.submit(read) for _ in range(_N_READERS)]
        saved, written = pool.submit(save), pool.submit(write)
        written.result()
        for reader in readers:
            for predicted, listed in reader.result():
                assert predicted in predictions
                assert listed in lists
        assert set(saved.result()) <= set(states)  # a pickle holds one state whole


def _chunk(number):
    """Rows of known and new ids, each chunk later than the one before it."""
    X, y = make_log(30, seed=3 + number)
    return X + np.array([4 * number, 3 * number, (366 + number) * DAY]), y


def _asked(model):
    """Return predictions and lists of a model as bytes."""
    users = np.arange(0, 45, 4)
    lists = model.recommend(users, n_recommendations=8)
    return predict(model, PAIRS[::17]).tobytes(), b"".join(part.tobytes() for part in lists)


class _Meanwhile(Vocabulary):
    """The users of a model, who run calls in other threads while the model is copied."""

    @classmethod
    def instead_of(cls, users, **calls):
        users.__class__ = cls
        users.calls, users.threads, users.finished = calls, [], set()
        return users

    def state(self):
        for name, call in self.calls.items():
            self.threads.append(Thread(target=self._run, args=(name, call), daemon=True))
            self.threads[-1].start()
        self.threads[-1].join(_PATIENCE)
        self.finished_during_the_copy = set(self.finished)
        return super().state()

    def _run(self, name, call):
        call()
        self.finished.add(name)


def check_forget_loses_no_other_call(estimator):
    """Learning and forgetting wait for one another; readers read the old model meanwhile."""
    model, (X, y) = fitted(estimator), make_news()
    kept = ~np.isin(X[:, 0], [3, 7])
    new, before, found = set(X[kept, 0]) - set(model.user_ids_), _asked(model), []
    assert len(new) > 2
    meanwhile = _Meanwhile.instead_of(
        model._model.users,
        learn=lambda: update(model, X[kept], y[kept]),
        forget=lambda: model.forget([7]),
        read=lambda: found.append(_asked(model)),
    )
    model.forget([3])
    assert meanwhile.finished_during_the_copy == {"read"}
    assert found == [before]
    for thread in meanwhile.threads:
        thread.join(_PATIENCE)
    assert meanwhile.finished == {"learn", "forget", "read"}
    users = set(model.user_ids_)
    assert new < users
    assert users.isdisjoint([3, 7])


def check_a_state_to_pickle_holds_no_lock(estimator):
    """Not one that is kept, and not one of a pickle that failed; learning does not change it."""
    model, unfit = fitted(estimator), (line for line in [])
    expected, state, kept = _asked(model), model._model.__getstate__(), []
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="generator") as error:
            copied([model, unfit])
        kept.append(error)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(update, model, *make_news()).result(_PATIENCE)
    assert _asked(model) != expected
    model._model = object.__new__(type(model._model))
    model._model.__setstate__(pickle.loads(pickle.dumps(state)))
    assert _asked(model) == expected


# ------------------------------------------------------------------------- pure reading


def check_answers_change_nothing(estimator):
    model = fitted(estimator)
    before = memory(model)
    _answer_all(model)
    assert memory(model) == before


def check_answers_and_pickles_move_nothing(estimator):
    """No array of a live model is replaced or moved: other threads may be reading it."""
    model = update(fitted(estimator), *make_news())
    before, state = addresses(model._model), copy.deepcopy(model._model.state())
    assert len(before) > 3
    _answer_all(model)
    assert addresses(model._model) == before, "answers moved arrays"
    pickle.dumps(model)
    copy.deepcopy(model)
    assert_same(model._model.state(), state, "state")
    assert addresses(model._model) == before, "pickling moved arrays"


def _answer_all(model):
    """Call every verb that answers."""
    X, y = make_log()
    answers(model)
    model.recommend([5], candidates=[3, 1, 2], n_recommendations=1, exclude_seen=False)
    model.score(X, for_target(model, y))
    for verb in ("attend", "explain"):
        if hasattr(model, verb):
            getattr(model, verb)(X)
    if hasattr(model, "similar_items"):
        model.similar_items(model.item_ids_[:3])


def addresses(model):
    """Return where each array and tensor of a model is in memory, by its path.

    Objects of a type that is called a cache are left out: reading may fill them.
    """
    found, seen, todo = {}, set(), [("model", model)]
    while todo:
        path, value = todo.pop()
        if id(value) in seen or "Cache" in type(value).__name__:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            found[path] = value.data_ptr()
        elif isinstance(value, np.ndarray):
            found[path] = value.__array_interface__["data"][0]
        elif isinstance(value, dict):
            todo += [(f"{path}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            todo += [(f"{path}.{place}", inner) for place, inner in enumerate(value)]
        elif (
            hasattr(value, "__dict__") and not isinstance(value, type) and not callable_only(value)
        ):
            todo += [(f"{path}.{name}", inner) for name, inner in vars(value).items()]
    return found


def callable_only(value):
    """Whether a value is a function or a module of Python, which hold nothing of a model."""
    return type(value).__name__ in ("function", "builtin_function_or_method", "module")


# --------------------------------------------------------------------------------- merge


def check_merge_equals_a_fit_on_both(estimator):
    """Where sums add up, two models are one; where they do not, the refusal says why."""
    X, y = make_log()
    for by, first in (("users", X[:, 0] < 15), ("time", np.arange(len(X)) < 200)):
        order = np.r_[np.flatnonzero(first), np.flatnonzero(~first)]
        for feedback in (None, y):
            parts = [_rows(X, feedback, rows) for rows in (first, ~first)]
            ours, theirs = (fit(estimator, *part) for part in parts)
            before, untouched = answers(ours), memory(theirs)
            refusal = _refusal(ours._model.merge, theirs._model)
            assert memory(theirs) == untouched
            if refusal is None:
                _check_merged(estimator, ours, fit(estimator, *_rows(X, feedback, order)))
                assert recommender_tags(estimator).merges
            else:
                assert "merge" in refusal
                assert len(refusal) > 80  # it says why, and what to do
                assert_array_equal(answers(ours), before)
                if by == "users":
                    assert not recommender_tags(estimator).merges
                    return  # whatever the rows
                break  # users are in both


def _rows(X, feedback, rows):
    return X[rows], None if feedback is None else feedback[rows]


def _refusal(call, *args):
    """Return the message of a ValueError, or None where there is none."""
    try:
        call(*args)
    except ValueError as error:
        return str(error)
    return None


def _check_merged(estimator, ours, expected):
    """Check a merged model against a fit on both logs."""
    assert_array_equal(ours.user_ids_, expected.user_ids_)
    assert_array_equal(ours.item_ids_, expected.item_ids_)
    assert_same(ours._model.seen.state(), expected._model.seen.state(), "seen")
    names = ("half_life", "history_half_life", "habit_half_life", "gap_half_life")
    decays = any(getattr(estimator, name, None) for name in names)
    if ours._model.positives_only and not decays:
        assert_array_equal(answers(ours), answers(expected))  # counts are whole numbers
    else:
        assert_allclose(answers(ours), answers(expected), rtol=1e-9, atol=1e-12)
    update(ours, make_news()[0], None if ours._model.positives_only else make_news()[1])
    assert np.isfinite(answers(ours)).all()


def check_merge_of_other_logs_is_refused(estimator):
    X, y = make_log()
    ours, theirs = fit(estimator, X, y), clone(estimator).fit(X)
    before = answers(ours)
    with pytest.raises(ValueError, match="merge"):
        ours._model.merge(theirs._model)
    assert_array_equal(answers(ours), before)


# -------------------------------------------------------------- settings of the process


def check_default_dtype_of_torch_changes_nothing(estimator):
    @contextmanager
    def in_float64():
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            yield
            assert torch.get_default_dtype() is torch.float64
        finally:
            torch.set_default_dtype(before)

    _check_setting(estimator, in_float64)


def check_gradients_off_change_nothing(estimator):
    @contextmanager
    def without_gradients():
        with torch.no_grad():
            yield
            assert not torch.is_grad_enabled()

    _check_setting(estimator, without_gradients)


def check_numpy_errors_change_nothing(estimator):
    @contextmanager
    def with_errors():
        with np.errstate(all="raise"):
            yield
            assert set(np.geterr().values()) == {"raise"}

    _check_setting(estimator, with_errors)


def _check_setting(estimator, setting):
    """Check that a setting of the process changes no result and is left as it was."""
    news = make_news()
    model = fitted(estimator)
    expected = [answers(model), answers(update(model, *news))]
    with setting():
        other = fit(estimator, *make_log())
        found = [answers(other), answers(update(other, *news))]
    assert_array_equal(found, expected)
    with setting():
        found = answers(other)  # a model of now, under settings of another process
    assert_array_equal(found, expected[1])


# ----------------------------------------------------------------------- mapped into memory


def check_mapped_file_is_copied_on_write(estimator):
    """A model that joblib maps into memory, read-only, answers and learns on."""
    model, news = fitted(estimator), make_news()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.joblib"
        joblib.dump(model, path)
        before = path.read_bytes()
        mapped = joblib.load(path, mmap_mode="r")
        assert_array_equal(answers(mapped), answers(model))
        update(mapped, *news)
        assert path.read_bytes() == before
        assert_array_equal(answers(mapped), answers(update(model, *news)))
        del mapped  # or the file could not be removed everywhere


def recommender_state_checks():
    """Every check of this file, in order."""
    return [f for name, f in globals().items() if name.startswith("check_")]
