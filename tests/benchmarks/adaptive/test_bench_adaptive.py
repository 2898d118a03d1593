"""The replay of the adaptive blend on a small log: what is asked, kept and learned."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.adaptive import mix, replay
from benchmarks.adaptive.members import COLUMNS, make
from benchmarks.common.events import cut

MEMBERS = {
    "recent": make("recent", {"half_life": 3}),
    "ease_h3": make("ease_h3", {"reg": 5.0, "history_half_life": 3.0}),
    "bpr": make("bpr", {"n_factors": 4, "max_epochs": 2}),
}
START, STOP = 600, 700
LOOPS = ("_walk", "_judge", "_score", "_gain", "_slope", "_total", "_step")


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Run the loops as plain Python: compiling them takes longer than all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in ((mix, LOOPS), (replay, ("_unite", "_describe"))):
            for name in names:
                patch.setattr(module, name, getattr(module, name).py_func)
        yield


@pytest.fixture(scope="module")
def stream():
    """Return 800 events of 25 users and 60 items."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(25 * 60)[:800]
    user, item = pairs // 60, pairs % 60
    order = np.argsort(user, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=25))])
    place = np.empty(800, np.int64)
    place[order] = np.arange(800) - start[user[order]]
    seconds = 3600.0 * np.arange(800)
    return replay.Stream("small", user, item, seconds, order, start, place, None)


@pytest.fixture(scope="module")
def members(stream):
    return {name: member.fit(stream.rows(0, START)) for name, member in MEMBERS.items()}


@pytest.fixture(scope="module")
def parts(stream, members):
    """Return what is kept of one chunk, asked before each event."""
    first_met = np.full(60, np.inf)
    np.minimum.at(first_met, stream.item, stream.time)
    asked = replay.ask_next(stream, START, STOP, 1)
    return replay.ask_members(stream, members, asked, first_met)


@pytest.fixture(scope="module")
def kept(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    np.savez(
        folder / "part_0.npz",
        members=list(MEMBERS),
        chunk=np.arange(len(parts["user"])) // 10,
        **parts,
    )
    return mix.Kept.load(folder, tuple(MEMBERS), 10)


def test_members_are_asked_with_the_history_before_the_event(stream, members, kept):
    for q in (0, 40, 99):
        event = START + q
        user = stream.user[event]
        own = np.flatnonzero(stream.user[:event] == user)
        history = pd.DataFrame(
            {"user_id": user, "item_id": stream.item[own], "timestamp": stream.time[own]}
        )
        for name, history_of_call in (("ease_h3", {"history": history}), ("bpr", {})):
            exclude = {"exclude": stream.item[own]}
            listed, _ = members[name].recommend(
                [user], n_recommendations=10, **history_of_call, **exclude
            )
            some = slice(kept.indptr[q], kept.indptr[q + 1])
            rank = kept.rank[some, kept.members.index(name)]
            assert_array_equal(kept.item[some][np.argsort(rank)[:10]], listed[0])


def test_candidates_are_the_best_of_some_member_and_not_met(kept):
    assert (kept.rank.min(axis=1) < 10).all()
    for m in range(len(MEMBERS)):
        assert (np.bincount(kept.owner, kept.rank[:, m] < 10) == 10).all()
    assert not kept.met.any()
    assert (np.bincount(kept.owner, kept.hit) <= 1).all()


def test_once_asks_each_user_before_the_chunk(stream):
    queries, targets = replay.ask_once(stream, START, STOP, 1)
    assert_array_equal(queries.user, np.unique(stream.user[START:STOP]))
    assert len(queries.items) == np.isin(stream.user[:START], queries.user).sum()
    assert sum(map(len, targets)) == STOP - START  # no pair repeats
    assert (queries.times < stream.time[START]).all()


def test_weights_never_see_a_list_before_it_is_judged(kept):
    options = mix.Options(context=("n_past",))
    for by_chunk in (True, False):
        whole = mix.learned(kept, options, by_chunk=by_chunk)
        hit = kept.hit.copy()
        hit[kept.indptr[60] :] = False
        cut = mix.learned(mix.replace(kept, hit=hit), options, by_chunk=by_chunk)
        assert_array_equal(whole[:60], cut[:60])
        assert whole[60:].sum() > cut[60:].sum() == 0


def test_one_member_keeps_its_order(kept):
    x = -np.log2(kept.rank[:, :1].astype(np.float32) + 2)
    found, weights = mix.walk(kept, x, ["rank recent"], mix.Options(context=()))
    assert (weights > 0).all()
    assert_allclose(found, mix.singles(kept)["recent"])


def test_interval_counts_users_once(kept):
    same = np.full(len(kept), 0.5)
    assert mix.interval(2 * same, same, kept.user) == pytest.approx((100.0, 100.0, 100.0))
    _, low, high = mix.interval(kept.user % 2 + 0.1, same, kept.user)
    _, low_of_lists, high_of_lists = mix.interval(kept.user % 2 + 0.1, same, np.arange(len(kept)))
    assert high - low > 1.5 * (high_of_lists - low_of_lists)


def test_ndcg_by_hand():
    assert replay.ndcg(np.array([4, 5, 6]), np.array([5])) == pytest.approx(1 / np.log2(3))
    assert replay.ndcg(np.array([4]), np.array([], int)) == 0.0
    assert COLUMNS == ["user_id", "item_id", "timestamp"]


def test_a_log_is_cut_to_frequent_items_and_every_second_user():
    frame = pd.DataFrame({"user_id": [7, 7, 8, 9, 9, 9], "item_id": list("abcacb")})
    assert cut(frame, every=2).index.tolist() == [0, 1, 3, 4, 5]  # users 7 and 9
    more = pd.concat([frame, frame[:1]], ignore_index=True)  # a: 3 events, b and c: 2
    assert cut(more, 1)["item_id"].tolist() == ["a", "a", "a"]
    assert cut(frame).equals(frame)
