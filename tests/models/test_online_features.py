"""Online features use strictly earlier rows only, for any split into calls."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft import kernels
from sklearn_recft.models import OnlineFeatures

N_USERS, N_ITEMS, N_FACTORS, START = 5, 6, 3, 1.7e9
kinds = pytest.mark.parametrize("outcome", [False, True])
learners = pytest.mark.parametrize("items_learn", [True, False])
seeds = st.integers(0, 10_000)
sizes = st.integers(1, 30)
quick = settings(deadline=None, max_examples=25)


def make_features(outcome, *, grown=True):
    model = OnlineFeatures(N_FACTORS, outcome=outcome, rng=np.random.default_rng(3))
    if grown:
        model.grow(N_USERS, N_ITEMS)
    return model


def loaded(model, outcome):
    """Return features that are loaded from the state of others."""
    twin = make_features(outcome, grown=False)
    twin.load_state(pickle.loads(pickle.dumps(model.state())))
    return twin


def make_log(seed, size, *, n_times=6, ordered=True, drawn=0.2):
    """Make rows with many ties; some are sampled negatives. Codes 4 and 5 have no events."""
    rng = np.random.default_rng(seed)
    times = START + 2_000.0 * rng.integers(0, n_times, size)
    return {
        "users": rng.integers(0, N_USERS - 1, size), "items": rng.integers(0, N_ITEMS - 1, size),
        "times": np.sort(times) if ordered else times,
        "label": rng.integers(0, 2, size).astype(float), "outcome": rng.normal(3, 1, size),
        "weight": rng.choice([0.0, 0.5, 1.0, 1.0, 2.0], size), "real": rng.random(size) >= drawn,
    }  # fmt: skip


def at(log, rows):
    return {name: column[rows] for name, column in log.items()}


def update(model, log, *, items_learn=True):
    has_outcome = len(model.tables.factorizations) > 1
    outcome = log["outcome"] if has_outcome else None
    return model.update(**{**log, "outcome": outcome}, items_learn=items_learn)


def every_pair():
    """Return every pair of user and item, unknown ones included."""
    users, items = np.meshgrid(np.arange(-1, N_USERS), np.arange(-1, N_ITEMS))
    return users.ravel(), items.ravel()


def transform(model, now):
    users, items = every_pair()
    return model.transform(users, items, np.full(len(users), now))


def numbers(tables):
    found = [array.tobytes() for array in tables.arrays().values()]
    for factorization in tables.factorizations:
        found += [array.tobytes() for array in factorization.arrays().values()]
    return found


def state_of(model):
    """Return the state as plain values that can be compared."""
    found = numbers(model.tables), model.newest, [r.bit_generator.state for r in model._rngs]
    if model._before is None:
        return found
    before, users, items = model._before
    return *found, numbers(before), users.tolist(), items.tolist()


def updated_in_calls(model, log, cuts, **options):
    n = len(log["users"])
    edges = sorted({0, n, *(min(cut, n) for cut in cuts)})
    parts = [update(model, at(log, slice(*edge)), **options) for edge in pairwise(edges)]
    return np.concatenate(parts)


# ------------------------------------------------------------------------- one and many calls


@kinds
@learners
@given(seed=seeds, size=sizes, cuts=st.lists(st.integers(0, 30)))
@quick
def test_one_call_equals_many_calls(outcome, items_learn, seed, size, cuts):
    """Bitwise equal, even if a call ends between rows of one time."""
    log, whole, pieces = make_log(seed, size), make_features(outcome), make_features(outcome)
    one = update(whole, log, items_learn=items_learn)
    many = updated_in_calls(pieces, log, cuts, items_learn=items_learn)
    assert one.dtype == np.float32
    assert one.tobytes() == many.tobytes()
    assert state_of(whole) == state_of(pieces)
    now = log["times"][-1]
    for later in (-1.0, 0.0, 1.0, 1e6):
        assert transform(whole, now + later).tobytes() == transform(pieces, now + later).tobytes()


@kinds
@given(seed=seeds, size=sizes)
@quick
def test_rows_in_any_order_are_sorted_in_time(outcome, seed, size):
    log = make_log(seed, size, ordered=False)
    order = np.argsort(log["times"], kind="stable")
    mixed, sorted_ = make_features(outcome), make_features(outcome)
    assert update(mixed, log)[order].tobytes() == update(sorted_, at(log, order)).tobytes()
    assert state_of(mixed) == state_of(sorted_)


@kinds
@given(seed=seeds, data=st.data())
@quick
def test_features_of_tied_rows_do_not_depend_on_their_order(outcome, seed, data):
    """In calls of any size, after the same history."""
    past, tied = make_log(seed, 20), make_log(seed + 1, 12, n_times=1)
    tied["times"] += 1e5
    order = np.array(data.draw(st.permutations(range(12))))
    cuts = data.draw(st.lists(st.integers(0, 12), max_size=4))
    model = make_features(outcome)
    update(model, past)
    expected = transform_rows(model, tied)
    found = np.empty_like(expected)
    found[order] = updated_in_calls(model, at(tied, order), cuts)
    assert found.tobytes() == expected.tobytes()
    assert transform_rows(model, tied).tobytes() == expected.tobytes()


def transform_rows(model, log):
    return model.transform(log["users"], log["items"], log["times"])


def test_new_items_start_the_same_in_one_call_or_many():
    whole, pieces = make_features(False), make_features(False, grown=False)
    for n in (1, 2, 4, N_ITEMS):
        pieces.grow(N_USERS, n)
    assert state_of(whole) == state_of(pieces)
    noise = whole.tables.factorizations[0].arrays()["item_factors"]
    assert len(np.unique(noise)) == noise.size


# --------------------------------------------------------------------- strictly earlier in time


@kinds
@learners
@given(seed=seeds, size=sizes, data=st.data())
@quick
def test_features_use_strictly_earlier_rows_only(outcome, items_learn, seed, size, data):
    """Rows at a time or after it do not change the features at that time."""
    log = make_log(seed, size)
    now = data.draw(st.sampled_from(log["times"].tolist()))
    earlier, tied = log["times"] < now, log["times"] == now
    blind, knows = make_features(outcome), make_features(outcome)
    update(blind, at(log, earlier), items_learn=items_learn)
    expected = transform(blind, now)
    updated = update(knows, at(log, earlier | tied), items_learn=items_learn)
    assert transform(knows, now).tobytes() == expected.tobytes()
    own = blind.transform(*(log[name][tied] for name in ("users", "items", "times")))
    assert updated[earlier.sum() :].tobytes() == own.tobytes()
    # Rows of what follows, in the same call, change nothing of what came before.
    whole = update(make_features(outcome), log, items_learn=items_learn)
    assert whole[: len(updated)].tobytes() == updated.tobytes()


@kinds
@given(seed=seeds, size=sizes, later=st.sampled_from([0.5, 1e4, 1e7]))
@quick
def test_transform_equals_the_features_of_a_later_update(outcome, seed, size, later):
    model = make_features(outcome)
    log = make_log(seed, size)
    update(model, log)
    row = {**make_log(seed + 1, 9), "times": np.full(9, log["times"][-1] + later)}
    before, transformed = state_of(model), transform_rows(model, row)
    assert state_of(model) == before
    assert update(model, row).tobytes() == transformed.tobytes()


def test_features_use_earlier_rows():
    """Otherwise the tests above could not fail."""
    log = make_log(0, 30, n_times=1, drawn=0.0)
    found = []
    for label in (0.0, 1.0):
        model = make_features(True)
        update(model, {**log, "label": np.full(30, label), "outcome": log["outcome"] * label})
        found.append([transform(model, START), transform(model, START + 1)])
    assert found[0][0].tobytes() == found[1][0].tobytes()
    users, items = every_pair()
    met = np.isin(users, log["users"]) & np.isin(items, log["items"])
    changed = (found[0][1] != found[1][1])[met].any(0)
    # All but weight, gap and session of users, and weight and popularity of items, which are
    # the same whatever the label, and the mean of outcomes, which is taken off.
    assert np.flatnonzero(~changed).tolist() == [1, 4, 5, 7, 8, 16]


# ------------------------------------------------------------------------------- late rows


@kinds
@given(seed=seeds, sizes=st.lists(st.integers(0, 8), min_size=1, max_size=6))
@quick
def test_out_of_order_rows_use_the_state_before_the_newest_time(outcome, seed, sizes):
    """They are learned, but their features use the state just before the newest time."""
    log, model = make_log(seed, sum(sizes), ordered=False), make_features(outcome)
    for begin, end in pairwise(np.cumsum([0, *sizes])):
        call = at(log, slice(begin, end))
        late = call["times"] <= model.newest
        expected, top = transform_rows(model, call), model.newest
        found = update(model, call)
        assert np.isfinite(found).all()
        assert found[late].tobytes() == expected[late].tobytes()
        assert model.newest == max(call["times"], default=top) or late.all()
        assert np.isfinite(transform(model, START)).all()


@kinds
@given(seed=seeds, size=sizes)
@quick
def test_the_newest_time_is_hidden_from_out_of_order_rows(outcome, seed, size):
    found = []
    for flipped in (False, True):
        model, log = make_features(outcome), make_log(seed, size)
        newest = log["times"] == log["times"][-1]
        if flipped:
            log["label"][newest] = 1 - log["label"][newest]
            log["outcome"][newest] += 3
            log["weight"][newest] += 1
            log["items"][newest] = N_ITEMS - 1
        update(model, log)
        found.append([transform(model, log["times"][-1] - gap) for gap in (0.0, 1.0, 1e5)])
        late = {**make_log(seed + 1, 7), "times": np.full(7, log["times"][-1] - 500.0)}
        found[-1].append(update(model, late))
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()


def test_out_of_order_rows_are_learned():
    log = make_log(0, 12, n_times=1, drawn=0.0)
    one, other = make_features(True), make_features(True)
    for model in (one, other):
        update(model, log)
    update(other, {**log, "times": log["times"] - 500, "weight": np.ones(12)})
    assert (transform(one, START + 1) != transform(other, START + 1)).any(0).sum() > 10


@kinds
def test_no_rows_change_nothing(outcome):
    model, log = make_features(outcome), make_log(0, 20)
    for _ in range(2):
        assert update(model, at(log, slice(0))).shape == (0, model.n_features)
        assert transform_rows(model, at(log, slice(0))).shape == (0, model.n_features)
        now = transform(model, START + 1e6)
        update(model, at(log, slice(0)))
        assert transform(model, START + 1e6).tobytes() == now.tobytes()
        update(model, log)


# ------------------------------------------------------------------------- what is not counted


@kinds
@given(seed=seeds, size=sizes)
@quick
def test_sampled_negatives_are_not_counted(outcome, seed, size):
    """They change only the factorization of the label."""
    log, all_rows, real_rows = make_log(seed, size), make_features(outcome), make_features(outcome)
    found = update(all_rows, log)[log["real"]]
    expected = update(real_rows, at(log, log["real"]))
    label = slice(kernels.N_STATISTICS, kernels.N_STATISTICS + kernels.N_SCORES)
    others = np.delete(np.arange(all_rows.n_features), label)
    assert found[:, others].tobytes() == expected[:, others].tobytes()


def test_sampled_negatives_change_the_factorization_of_the_label():
    log = make_log(0, 30)
    found = update(make_features(False), log)[log["real"]]
    expected = update(make_features(False), at(log, log["real"]))
    assert (found != expected).any(0).nonzero()[0].tolist() == [9, 10, 11, 12]


# ---------------------------------------------------------------------------------- columns


@kinds
@learners
def test_columns_about_an_item_are_zero_without_its_events(outcome, items_learn):
    model, log = make_features(outcome), make_log(0, 60)
    update(model, log, items_learn=items_learn)
    about = np.zeros(model.n_features, bool)
    about[model.about_item] = True
    users, items = every_pair()
    for now in (log["times"][-1], log["times"][-1] + 1e4):
        features = transform(model, now)
        met = np.isin(items, log["items"]) & np.isin(users, log["users"])
        if items_learn:
            assert (features[met][:, about] != 0).any(0).all()
        for item in (-1, N_ITEMS - 1):
            assert not features[items == item][:, about].any()
            # Nothing else tells of the item.
            rest = features[items == item][:, ~about]
            assert rest.tobytes() == features[items == 0][:, ~about].tobytes()


@kinds
def test_an_unknown_user_has_item_features_and_the_mean(outcome):
    model, log = make_features(outcome), make_log(0, 60)
    update(model, log)
    users, _ = every_pair()
    features = transform(model, log["times"][-1] + 1e4)
    of_user = [*range(6), *(first + part for first in (9, 13)[: 1 + outcome] for part in (0, 2))]
    assert not features[np.isin(users, [-1, N_USERS - 1])][:, of_user].any()
    assert (features[(users >= 0) & (users < N_USERS - 1)][:, :5] != 0).any(0).all()


def learned_logit(model, user, item):
    """Return the logit of the label factorization as it learns a row."""
    arrays = copy.deepcopy(model.tables).factorizations[0].arrays()
    names = ("mean", "user_bias", "item_bias", "user_factors", "item_factors", "context_weight",
             "user_count", "item_count")  # fmt: skip
    scored, one = np.empty(1, np.float32), np.ones(1, np.float32)
    kernels.online_pass(
        np.array([user], np.int32), np.array([item], np.int32), one, 0 * one,
        np.zeros((1, 0), np.float32), scored, model.tables.arrays()["moments"][0].copy(),
        np.ones(11, np.float32), kernels.LOG_LOSS, 300, False,
        *(arrays[name] for name in names),
    )  # fmt: skip
    return np.log(scored / (1 - scored))[0]


def test_the_first_weights_reproduce_the_factorization():
    model, log = make_features(False), make_log(0, 80, drawn=0.0)
    update(model, log)
    users, items = every_pair()
    logits = transform(model, log["times"][-1] + 1) @ model.first_weights
    met = np.isin(users, log["users"]) & np.isin(items, log["items"])
    assert met.sum() == (N_USERS - 1) * (N_ITEMS - 1)
    expected = [learned_logit(model, *pair) for pair in zip(users[met], items[met], strict=True)]
    np.testing.assert_allclose(logits[met], expected, rtol=1e-4, atol=1e-5)
    # A stranger and a new item are an average user and item.
    (mean,) = logits[(users < 0) & (items < 0)]
    share = (log["weight"] @ log["label"] + 0.5) / (log["weight"].sum() + 1)
    assert mean == pytest.approx(np.log(share / (1 - share)), rel=1e-5)


def test_with_an_outcome_the_first_weights_mix_both():
    model, log = make_features(True), make_log(0, 80)
    update(model, log)
    features = transform(model, log["times"][-1] + 1)
    label, outcome = features[:, 9:13], features[:, 13:]
    expected = label[:, 3] + 0.5 * label[:, :3].sum(1) + 0.9 * outcome[:, :3].sum(1)
    np.testing.assert_allclose(features @ model.first_weights, expected, rtol=1e-5, atol=1e-6)
    assert not outcome[:, 3].any()


def test_features_do_not_depend_on_the_unit_of_the_outcome():
    """Approximately: the first rows are learned before the unit is known."""
    found = []
    for scale, shift in ((1.0, 0.0), (50.0, -7.0)):
        model, first, log = make_features(True), make_log(1, 40, drawn=0.0), make_log(2, 40)
        first["items"][:] = 0
        first["items"][:3] = log["items"][:] = 1
        for each in (first, log):
            each["outcome"] = each["outcome"] * scale + shift
            update(model, each)
        found.append(transform(model, START + 1e6))
    np.testing.assert_allclose(found[0], found[1], rtol=0.02, atol=0.005)


# -------------------------------------------------------------------------- copies and the way back


@kinds
@given(seed=seeds, grown=st.integers(0, 4), cut=st.integers(0, 19), late=st.booleans())
@quick
def test_restore_resets_features(outcome, seed, grown, cut, late):
    log, model = make_log(seed, 20, ordered=not late), make_features(outcome)
    update(model, at(log, slice(cut)))
    state = state_of(model)
    rest = at(log, slice(cut, None))
    rest["users"], rest["items"] = rest["users"] + grown, rest["items"] + grown
    mark = model.mark(rest["users"], rest["items"])
    found = []
    for _ in range(2):
        model.grow(N_USERS + grown, N_ITEMS + grown)
        found.append([update(model, rest).tobytes(), state_of(model)])
        model.restore(mark)
        assert state_of(model) == state
        assert state_of(loaded(model, outcome)) == state
    assert found[0] == found[1]


@kinds
def test_a_loaded_state_continues_like_the_original(outcome):
    log, model = make_log(0, 40), make_features(outcome)
    update(model, at(log, slice(20)))
    twin = loaded(model, outcome)
    state = state_of(model)
    assert state_of(twin) == state
    found = []
    for each in (twin, model):
        each.grow(N_USERS + 1, N_ITEMS + 2)
        found.append(update(each, at(log, slice(20, None))))
        assert (each is model) or state_of(model) == state
    assert found[0].tobytes() == found[1].tobytes()
    assert state_of(twin) == state_of(model)


def test_read_only_arrays_are_accepted():
    log, model = make_log(0, 30), make_features(True)
    expected = update(make_features(True), log)
    for column in log.values():
        column.flags.writeable = False
    assert update(model, log).tobytes() == expected.tobytes()
    transform_rows(model, log)
