"""The memory of past events against sets and lists, and taken back as if nothing had been."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.history import FeedbackMatrix, Reservoir, SeenItems, fade_by_order

# Few users and items, so that repeats are the rule; batches that fill the first log of 64.
pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), max_size=90)
logs = st.lists(pairs, max_size=6)


def columns(batch):
    return np.array(batch, np.int64).reshape(-1, 2).T


def append(seen, batch, n_users=10):
    users, items = columns(batch)
    seen.append(users, items, n_users)


def as_sets(seen, n_users=14):
    return [seen.items_of(user).tolist() for user in range(n_users)]


def brute_force(batches, n_users=14):
    met = [set() for _ in range(n_users)]
    for batch in batches:
        for user, item in batch:
            met[user].add(item)
    return [sorted(items) for items in met]


@given(logs)
@settings(deadline=None)
def test_seen_items_are_the_set_of_each_user(batches):
    seen = SeenItems()
    for j, batch in enumerate(batches):
        append(seen, batch)
        assert as_sets(seen) == brute_force(batches[: j + 1])
    for twin in (copy.deepcopy(seen), pickle.loads(pickle.dumps(seen))):
        assert as_sets(twin) == as_sets(seen)
        append(twin, [(3, 77)])
        assert as_sets(seen) == brute_force(batches)
        assert 77 in twin.items_of(3)


@given(logs, logs, st.integers(10, 40))
@settings(deadline=None, max_examples=200)
def test_seen_items_restored_are_as_before(before, after, n_users):
    """Whatever happened since: compaction, doubling, users beyond the table."""
    seen, twin = SeenItems(), SeenItems()
    for batch in before:
        append(seen, batch)
        append(twin, batch)
    users = np.concatenate([columns(batch)[0] for batch in after] + [np.empty(0, np.int64)])
    new = np.arange(10, n_users)
    mark = seen.mark(np.concatenate([users, new]))
    for batch in after:
        append(seen, batch)
    seen.append(new, np.zeros(len(new), np.int64), n_users)
    seen.restore(mark)
    assert seen.size == twin.size
    assert as_sets(seen, 50) == as_sets(twin, 50) == brute_force(before, 50)
    for batch in [*after, [(12, 5), (12, 6)]]:
        append(seen, batch, 13)
    assert as_sets(seen) == brute_force([*before, *after, [(12, 5), (12, 6)]])


def test_seen_items_of_unknown_users_are_none():
    seen = SeenItems()
    assert seen.items_of(0).tolist() == []
    seen.append(np.array([1]), np.array([5]), n_users=2)
    assert seen.items_of(0).tolist() == seen.items_of(1000).tolist() == []


def test_seen_items_repeats_do_not_fill_memory():
    rng = np.random.default_rng(0)
    seen = SeenItems()
    for _ in range(400):
        seen.append(rng.integers(0, 20, 100), rng.integers(0, 10, 100), n_users=20)
    # 200 distinct pairs; 40,000 events.
    assert as_sets(seen, 20) == [list(range(10))] * 20
    assert len(seen.item) == len(seen.previous) <= 512
    assert len(pickle.dumps(seen)) < 8 * 512 + 1000


def test_seen_items_append_does_not_copy_the_log_each_time():
    seen, logs = SeenItems(), set()
    for j in range(2000):
        seen.append(np.array([j % 7]), np.array([j]), n_users=7)
        logs.add(id(seen.item))
    assert seen.size == 2000
    assert len(logs) < 20
    assert seen.items_of(3).tolist() == list(range(3, 2000, 7))


class FirstOfAll:
    """Stands in for a generator: always draws the highest number it may."""

    def integers(self, low, high):
        return np.asarray(high) - 1


def offer(sample, values, rng):
    slots = sample.slots(len(values), rng)
    sample.put(slots, {"item": np.array(values), "pair": np.array(values)[:, None] * [1, -1]})


@given(st.integers(0, 12), st.lists(st.integers(0, 15), max_size=6), st.integers(0, 99))
@settings(deadline=None)
def test_reservoir_is_algorithm_r(capacity, sizes, seed):
    sample, kept, offered = Reservoir(capacity), [], 0
    rng = np.random.default_rng(seed)
    for size in sizes:
        slots = sample.slots(size, rng)
        assert slots.shape == (size,)
        values = np.arange(offered, offered + size)
        for value, slot in zip(values.tolist(), slots.tolist(), strict=True):
            assert 0 <= slot <= value
            if value < capacity:
                assert slot == value
                kept.append(value)
            elif slot < capacity:
                kept[slot] = value
        sample.put(slots, {"item": values, "pair": values[:, None] * [1, -1]})
        offered += size
        assert sample.n_offered == offered
        assert len(sample) == len(kept) == min(offered, capacity)
        if kept:
            rows = sample.take(np.arange(len(kept)))
            assert rows["item"].tolist() == kept
            assert rows["pair"].tolist() == [[value, -value] for value in kept]
            drawn = sample.draw(40, rng)
            assert set(drawn["item"].tolist()) <= set(kept)
            np.testing.assert_array_equal(drawn["pair"][:, 0], drawn["item"])


def test_reservoir_keeps_every_row_with_the_same_chance():
    """Chi-squared over places of arrival: old rows and new ones, in batches of every size."""
    runs, offered, capacity = 4000, 60, 15
    rng, hits = np.random.default_rng(0), np.zeros(offered)
    for _ in range(runs):
        sample = Reservoir(capacity)
        for piece in np.split(np.arange(offered), [1, 4, 20, 21, 50]):
            offer(sample, piece, rng)
        hits[sample.take(np.arange(capacity))["item"]] += 1
    chance = capacity / offered
    z = (hits - runs * chance) / np.sqrt(runs * chance * (1 - chance))
    # Draws without replacement: the sum of squares has mean 60 and about 59 degrees of freedom.
    assert 30 < (z**2).sum() < 100
    assert np.abs(z).max() < 4


def test_reservoir_draws_with_replacement_and_evenly():
    sample, rng = Reservoir(8), np.random.default_rng(0)
    offer(sample, np.arange(5), rng)
    counts = np.bincount(sample.draw(10_000, rng)["item"], minlength=8)
    assert counts[5:].tolist() == [0, 0, 0]
    assert np.abs(counts[:5] - 2000).max() < 200


@given(st.integers(0, 12), st.integers(0, 20), st.integers(0, 30), st.integers(0, 99))
@settings(deadline=None)
def test_reservoir_restored_is_as_before(capacity, first, second, seed):
    rng = np.random.default_rng(seed)
    sample, twin = Reservoir(capacity), Reservoir(capacity)
    slots = sample.slots(first, rng)
    for each in (sample, twin):
        each.put(slots, {"item": np.arange(first)})
    slots = sample.slots(second, rng)
    mark = sample.mark(slots)
    sample.put(slots, {"item": np.arange(100, 100 + second)})
    sample.restore(mark)
    assert len(sample) == len(twin)
    assert sample.n_offered == twin.n_offered
    places = np.arange(len(twin))
    for name in twin.rows:
        assert sample.take(places)[name].tolist() == twin.take(places)[name].tolist()
    assert set(sample.rows) == set(twin.rows)


def test_reservoir_of_none_keeps_none():
    sample, rng = Reservoir(0), np.random.default_rng(0)
    offer(sample, np.arange(50), rng)
    assert len(sample) == 0
    assert sample.rows == {}
    assert sample.n_offered == 50


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_reservoir_memory_is_bounded(batch):
    sample, rng = Reservoir(100), np.random.default_rng(0)
    offer(sample, np.arange(1000), rng)
    tracemalloc.start()
    for _ in range(200):
        offer(sample, np.zeros(batch, np.int64), rng)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000
    assert [len(column) for column in sample.rows.values()] == [100, 100]


def test_reservoir_room_follows_what_came():
    sample = Reservoir(10**9)
    offer(sample, np.arange(3), FirstOfAll())
    assert len(sample.rows["item"]) < 10


# ------------------------------------------------------------------------- feedback

events = st.tuples(
    st.integers(0, 5), st.integers(0, 7), st.floats(0.1, 3), st.integers(-3, 5)
)  # fmt: skip
batches = st.lists(st.lists(events, min_size=1, max_size=12), min_size=1, max_size=5)
shares = st.lists(st.sampled_from([1.0, 0.5, 0.25]), min_size=6, max_size=6)


def grow(matrix, batch, **left):
    users, items, weight, feedback = map(np.array, zip(*batch, strict=True))
    return matrix.added(users, items, weight=weight, feedback=feedback.astype(float), **left)


def as_dict(matrix):
    found = matrix.sums.tocoo()
    pairs = zip(found.row.tolist(), found.col.tolist(), strict=True)
    return dict(zip(pairs, zip(found.data.real, found.data.imag, strict=True), strict=True))


@given(batches, shares, st.sampled_from(["all", "one", "each"]))
@settings(deadline=None)
def test_feedback_is_summed_and_fades_as_told(batches, left, how):
    matrix, sums, kept, n_users = FeedbackMatrix(), {}, [], 0
    for batch in batches:
        n_users = max(n_users, max(row[0] for row in batch) + 1)
        share = {"all": np.ones(6), "one": np.full(6, left[0]), "each": np.array(left)}[how]
        told = {"all": {}, "one": {"left": left[0]}, "each": {"left": share[:n_users]}}[how]
        kept.append((matrix, pickle.dumps(matrix)))
        matrix = grow(matrix, batch, **told)
        sums = {(u, i): (w * share[u], t * share[u]) for (u, i), (w, t) in sums.items()}
        for user, item, w, y in batch:
            weight, total = sums.get((user, item), (0, 0))
            sums[user, item] = weight + w, total + w * y
        found = as_dict(matrix)
        assert found.keys() == sums.keys()
        for pair, expected in sums.items():
            assert found[pair] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert matrix.sums.shape == tuple(max(pair[j] for pair in sums) + 1 for j in (0, 1))
        assert matrix.sums.has_canonical_format
    for old, before in kept:  # whoever kept an old one still has it
        assert pickle.dumps(old) == before


@given(batches, st.lists(st.integers(-1, 5), max_size=9))
@settings(deadline=None)
def test_feedback_of_users_and_nothing_of_strangers(batches, asked):
    matrix = FeedbackMatrix()
    for batch in [*batches, [(5, 0, 1.0, 1)]]:
        matrix = grow(matrix, batch)
    asked = np.array(asked, np.int64)
    for side, part in enumerate((matrix.weight, matrix.total)):
        dense = np.zeros((6, matrix.sums.shape[1]))
        for pair, sums in as_dict(matrix).items():
            dense[pair] = sums[side]
        np.testing.assert_allclose(part().toarray(), dense, rtol=1e-6)
        rows = part(asked)
        assert rows.dtype == part().dtype == np.float32
        assert rows.indptr.dtype == rows.indices.dtype == part().indices.dtype == np.int32
        expected = np.where(asked[:, None] >= 0, part().toarray()[asked], 0)
        np.testing.assert_array_equal(rows.toarray(), expected)
        assert (np.diff(rows.indptr)[asked < 0] == 0).all()


def test_values_of_feedback_handed_out_may_be_written():
    matrix = grow(FeedbackMatrix(), [(0, 1, 1.0, 2), (1, 0, 1.0, 3)])
    before = pickle.dumps(matrix)
    for part in (matrix.total(), matrix.weight(), matrix.total(np.array([0, 1]))):
        part.data[:] = 77
    assert pickle.dumps(matrix) == before


moments = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=25)


@given(moments, st.sampled_from([0.5, 1.0, 7.0]), st.booleans())
@settings(deadline=None)
def test_events_fade_with_what_the_same_user_did_after_them(rows, half_life, timed):
    users, times = map(np.array, zip(*rows, strict=True))
    weight, left = fade_by_order(users, times * 1.0 if timed else None, half_life, 6)
    for place, user in enumerate(users):
        mine = np.flatnonzero(users == user)
        mine = mine[np.argsort(times[mine] if timed else mine, kind="stable")].tolist()
        after = len(mine) - 1 - mine.index(place)
        assert weight[place] == pytest.approx(2 ** (-after / half_life))
    assert left == pytest.approx([2 ** (-(users == user).sum() / half_life) for user in range(6)])
