"""Training of the sequence model: targets, updates and early stopping."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback

from sklearn_recft.modules._time_attention import Dropout
from tests.models.sequence_data import (
    N_ITEMS,
    N_USERS,
    START,
    make_log,
    make_model,
    moved,
    parameters,
)

# ------------------------------------------------------------------------- what is a target


class Watch(Callback):
    """Record targets, query times, weights, and the optimizer state at the start of a call."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.targets, self.query_times, self.weights, self.states, self.begun = [], [], [], [], []

    def on_train_begin(self, net, **kwargs):
        self.begun.append(
            [
                (p.shape, copy.deepcopy(net.optimizer_.state.get(p)))
                for p in net.module_.parameters()
            ]
        )

    def on_batch_begin(self, net, batch=None, **kwargs):
        columns = batch[0]
        real = columns["weight"] > 0
        self.targets += columns["target"][real].tolist()
        self.query_times += columns["query_times"][real].tolist()
        self.weights += columns["weight"][real].tolist()

    def on_epoch_end(self, net, **kwargs):
        self.states.append(copy.deepcopy(net.module_.state_dict()))


def test_a_fit_predicts_each_event_but_the_first_of_each_user():
    X, watch = make_log(), Watch()
    make_model(2, callbacks=[watch]).fit(X)
    first = X.user_id.drop_duplicates().index
    rest = X.drop(first)
    assert sorted(watch.query_times) == sorted([*rest.timestamp] * 2)
    assert set(watch.weights) == {1.0}


def test_negative_feedback_is_no_target_but_part_of_the_history():
    X, watch, rng = make_log(), Watch(), np.random.default_rng(0)
    y = rng.choice([-1.0, 0.0, 0.5, 3.0], len(X))
    model = make_model(3, callbacks=[watch], learning_rate=0.05).fit(X, y)
    rest = X[(y > 0) & X.user_id.duplicated()]
    assert sorted(watch.query_times) == sorted([*rest.timestamp] * 3)
    # The next prediction depends on the feedback of an event that was no target.
    last, query = X.tail(N_USERS), X.tail(N_USERS).assign(timestamp=X.timestamp.max() + 99)
    answers = [
        copy.deepcopy(model).observe(last.assign(timestamp=last.timestamp + 50), y).predict(query)
        for y in (np.zeros(N_USERS), np.full(N_USERS, -3.0))
    ]
    assert (answers[0] != answers[1]).all()


def test_sample_weights_are_weights_of_targets():
    X, watch, rng = make_log(), Watch(), np.random.default_rng(1)
    weight = rng.choice([0.0, 0.5, 2.0], len(X))
    model = make_model(callbacks=[watch]).fit(X, sample_weight=weight)
    kept = X[weight > 0]
    rest = kept[kept.user_id.duplicated()]
    expected = zip(rest.timestamp, weight[rest.index], strict=True)
    assert sorted(zip(watch.query_times, watch.weights, strict=True)) == sorted(expected)
    # To the bit as if they had not been given, as context of others too.
    other = make_model().fit(kept, sample_weight=weight[weight > 0])
    assert_array_equal(other.predict(X), model.predict(X))


def test_an_update_trains_on_new_events_only():
    X, watch = make_log(), Watch()
    model = make_model(callbacks=[watch], update_epochs=1).fit(X)
    news = make_log(3, n_users=N_USERS + 2, seed=1, begin=START + 10_000)
    late = X[:2].assign(timestamp=X.timestamp[:2] + 150)  # in the midst of what is known
    watch.clear()
    model.partial_fit(pd.concat([news, late]))
    is_first = (news.user_id >= N_USERS) & ~news.user_id.duplicated()
    assert sorted(watch.query_times) == sorted([*news.timestamp[~is_first], *late.timestamp])


def test_an_update_rehearses_the_last_windows_of_other_users():
    X, watch = make_log(20), Watch()
    model = make_model(callbacks=[watch], replay_size=12, update_epochs=1).fit(X)
    news = make_log(4, n_users=2, seed=1, begin=START + 100_000)
    others = X[X.user_id > 1].drop_duplicates("user_id").assign(timestamp=START + 200_000)
    before = model.attend(others)
    watch.clear()
    model.partial_fit(news)
    again = [t for t in watch.query_times if t < START + 100_000]
    assert sorted(t for t in watch.query_times if t >= START + 100_000) == sorted(news.timestamp)
    rehearsed = X[X.timestamp.isin(again)]
    assert len(again) == len(rehearsed), "nothing is rehearsed twice"
    assert not rehearsed.user_id.isin([0, 1]).any()
    for _, rows in rehearsed.groupby("user_id"):
        its = X[X.user_id == rows.user_id.iloc[0]]
        assert rows.timestamp.tolist() == its.timestamp.tolist()[-model.max_history :]
    after = model.attend(others)
    assert_array_equal(after.item_ids, before.item_ids)
    assert_array_equal(after.age, before.age)


# ------------------------------------------------------------------------------------ stopping


def test_patience_validates_on_the_newest_events_and_restores_the_best():
    X, watch = make_log(20), Watch()
    X["item_id"] = np.random.default_rng(0).integers(0, N_ITEMS, len(X))  # nothing to be found
    model = make_model(
        8, callbacks=[watch], patience=2, learning_rate=0.02, validation_fraction=0.2
    )
    model.fit(X)
    scores = model.net_.history[:, "ndcg@10"]
    best = int(np.argmax(scores))
    assert len(scores) == min(8, best + 3)
    assert best < len(scores) - 1, "no test of going back"
    assert 0 < max(scores) <= 1
    for name, value in model.module_.state_dict().items():
        assert torch.equal(value, watch.states[best][name])
    assert torch.equal(model._model.network.catalogue, model.module_.catalogue())
    # What it is judged by is not trained on, however much of the log it is.
    until = np.quantile(X.timestamp, 0.8)
    assert max(watch.query_times) <= until
    assert len(watch.query_times) / len(scores) == (X.timestamp <= until).sum() - N_USERS


def test_the_validation_metric_is_ndcg_over_the_catalogue():
    X = make_log(12)
    model = make_model(1, max_history=12, patience=1, validation_fraction=0.25).fit(X)
    later = X[X.timestamp > np.quantile(X.timestamp, 0.75)]
    gains = []
    for row in range(len(later)):
        one = later[row : row + 1]
        items = model.item_ids_.tolist()
        each = pd.concat([one.assign(item_id=item) for item in items], ignore_index=True)
        # Each query is just before its row, so that it does not see its own event.
        scores = model.predict(each.assign(timestamp=each.timestamp - 1e-4))
        rank = (scores > scores[items.index(one.item_id.iloc[0])]).sum()
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0)
    assert model.net_.history[-1, "ndcg@10"] == pytest.approx(np.mean(gains), rel=1e-6)


def test_validation_events_do_not_change_weights():
    X = make_log(12)
    held = X.timestamp > np.quantile(X.timestamp, 0.8)
    other = X.assign(item_id=X.item_id.where(~held, (X.item_id + 3) % N_ITEMS))
    models = [make_model(1, patience=1, validation_fraction=0.2).fit(x) for x in (X, other)]
    assert not moved(models[0], parameters(models[1]))
    assert models[0].net_.history[-1, "ndcg@10"] != models[1].net_.history[-1, "ndcg@10"]


@pytest.mark.parametrize("times", ["none", "newest tied"])
def test_patience_needs_validation_events(times):
    """If no row is later than the others, it raises, or holds out some rows anyway."""
    X = make_log()
    X["timestamp"] = (np.arange(len(X)) > 60) * 60.0
    if times == "none":
        X = X.drop(columns="timestamp")
    model = make_model(3, patience=1)
    try:
        model.fit(X)
    except ValueError as error:
        assert "timestamp" in str(error)  # noqa: PT017 - it may be raised, or not
    else:
        assert max(model.net_.history[:, "ndcg@10"]) > 0


def test_verbose_prints_each_epoch(capsys):
    make_model(2, verbose=1, patience=5).fit(make_log())
    said = capsys.readouterr().out
    for name in ("epoch", "ndcg@10", "train_loss", "dur", "time_left"):
        assert name in said
    lines = said.splitlines()
    left = [float(line.split()[lines[0].split().index("time_left")]) for line in lines[2:4]]
    assert left[0] > left[1] == 0
    assert [line.split()[0] for line in lines[2:4]] == ["1", "2"]
    make_model(2).fit(make_log())
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------- updates


@pytest.mark.parametrize(
    ("freeze", "still"),
    [
        (None, ()), (0, ()), (1, ("blocks.0.",)),
        (2, ("blocks.", "gap", "query_gap", "feedback", "norm.", "mix.")),
        ("all", ("blocks.", "gap", "query_gap", "feedback", "norm.", "mix.")),
    ],
)  # fmt: skip
def test_frozen_blocks_do_not_change_in_updates(freeze, still):
    X, rng = make_log(), np.random.default_rng(0)
    y = rng.choice([1.0, 2.0], len(X))
    model = make_model(freeze_blocks=freeze).fit(X, y)
    before = parameters(model)
    model.partial_fit(make_log(4, seed=1, begin=START + 10_000), rng.choice([1.0, 2.0], 48))
    assert moved(model, before) == {name for name in before if not name.startswith(still)}
    assert all(p.requires_grad for p in model.module_.parameters())


def test_new_items_keep_the_optimizers_moments():
    X, watch = make_log(), Watch()
    model = make_model(callbacks=[watch]).fit(X)
    old = copy.deepcopy(model.net_.optimizer_.state[model.module_.embedding])
    news = make_log(3, seed=1, begin=START + 10_000)
    watch.clear()
    model.observe(news[:5].assign(item_id=77))
    model.partial_fit(news.assign(item_id=news.item_id % 4 + 100))
    assert model.n_items_ == N_ITEMS + 5
    begun = {shape: state for shape, state in watch.begun[0] if shape == (N_ITEMS + 5, 8)}
    (state,) = begun.values()
    assert state["step"] == old["step"] > 0
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[name][:N_ITEMS], old[name])
        assert not state[name][N_ITEMS:].any()
        now = model.net_.optimizer_.state[model.module_.embedding]
        assert now[name].shape == model.module_.embedding.shape
        assert now["step"] > old["step"]


def test_first_partial_fit_equals_fit_and_depends_on_the_seed():
    X = make_log()
    one, other = make_model(2).fit(X), make_model(2).partial_fit(X)
    assert not moved(one, parameters(other))
    assert moved(make_model(2, random_state=1).fit(X), parameters(one))


def test_a_log_without_targets_is_stored():
    X = make_log(1)
    model = make_model().fit(X)
    _, scores = model.recommend(X.user_id, n_recommendations=2)
    assert np.isfinite(scores).all()
    model.partial_fit(X.assign(user_id=X.user_id + 100, timestamp=X.timestamp + 9999))
    assert model.n_users_ == 2 * N_USERS


class Break(Callback):
    """Raise an error during the training of an update."""

    def __init__(self, error):
        self.error, self.armed = error, False

    def on_batch_end(self, net, **kwargs):
        if self.armed:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()])
def test_an_error_in_training_is_rolled_back(error):
    X, broken = make_log(), Break(error)
    model = make_model(callbacks=[broken], freeze_blocks=1).fit(X)
    twin, queries = pickle.loads(pickle.dumps(model)), X.assign(timestamp=START + 20_000)
    before, size = model.predict(queries), len(pickle.dumps(model))
    news = make_log(4, n_users=20, seed=1, begin=START + 10_000)
    news["item_id"] += 5
    broken.armed = True
    with pytest.raises(type(error)):
        model.partial_fit(news)
    broken.armed = False
    assert not moved(model, parameters(twin))
    assert all(p.requires_grad for p in model.module_.parameters())
    assert_array_equal(model.predict(queries), before)
    assert len(pickle.dumps(model)) == size
    # As if nothing had been: the next call draws and learns the same.
    for each in (model, twin):
        each.partial_fit(news)
    assert not moved(model, parameters(twin))
    assert_array_equal(model.predict(queries), twin.predict(queries))


# ----------------------------------------------------------------------------------- policies


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate": 3, "batch_size": 40}, {"bf16": True}, {"n_negatives": 4},
        {"n_negatives": 50, "bf16": True}, {"adversarial": 0.1}, {"dropout": 0.0, "clip": np.inf},
        {"weight_decay": 0.1, "warmup": 0.5, "schedule": "constant"},
    ],
    ids=str,
)  # fmt: skip
def test_training_options_are_accepted(given):
    X = make_log()
    model, plain = make_model(2, **given).fit(X), make_model(2).fit(X)
    model.partial_fit(make_log(2, seed=1, begin=START + 10_000))
    assert all(torch.isfinite(p).all() for p in model.module_.parameters())
    assert all(p.dtype == torch.float32 for p in model.module_.parameters())
    assert moved(model, parameters(plain)), "no word of it was heard"
    assert np.isfinite(model.predict(X)).all()


def test_lists_use_the_mean_of_the_last_weights():
    watch = Watch()
    how = {"average": 0.5, "schedule": "constant", "learning_rate": 0.02}
    model = make_model(4, callbacks=[watch], batch_size=10_000, trend_half_lives=(), **how)
    model.fit(make_log())  # one step an epoch
    for name, parameter in model.module_.named_parameters():
        third, last = (state[name] for state in watch.states[-2:])
        np.testing.assert_allclose(parameter.detach(), (third + last) / 2, rtol=0, atol=1e-6)
    users = np.arange(N_USERS)
    before = model.recommend(users, n_recommendations=N_ITEMS, exclude_seen=False)
    # A new item makes the table of the scores anew, from the weights.
    model.observe([["new", N_ITEMS, START]])
    after = model.recommend(
        users, n_recommendations=N_ITEMS, exclude_seen=False, candidates=np.arange(N_ITEMS)
    )
    assert_array_equal(after[0], before[0])
    np.testing.assert_allclose(after[1], before[1], rtol=1e-6)


def test_sampled_negatives_learn_as_well_as_the_full_softmax():
    """Item i + 1 follows item i."""
    X = make_log(12, n_users=30)
    for n_negatives in (0, 8):
        model = make_model(
            8, n_layers=1, learning_rate=0.03, n_negatives=n_negatives, dropout=0.0
        ).fit(X)
        assert model.module_.n_negatives == n_negatives
        last = X.tail(30)
        items, _ = model.recommend(last.user_id, n_recommendations=2, exclude_seen=False)
        nexts = (last.item_id.to_numpy() + 1) % N_ITEMS
        assert (items[:, 0] == nexts).mean() > 0.7


def test_items_without_events_keep_the_cold_item_embedding():
    X = make_log()
    y = np.where(X.item_id == 2, 0.0, 1.0)  # seen by many users, with negative feedback only
    listed = pd.DataFrame({"item_id": ["a", "b"], "text": ""})
    model = make_model(2).fit(X, y, items=listed)
    for _ in range(2):
        embedding = model.module_.embedding.detach()
        new = model._model.items.encode(np.array(["a", "b"], object))
        assert (embedding[new] == model.module_.cold_item_embedding()).all()
        disliked = model._model.items.encode(np.array([2], object))[0]
        assert not (embedding[disliked] == model.module_.cold_item_embedding()).all()
        model.partial_fit(X.assign(timestamp=X.timestamp + 9000), y, items=listed)


def test_an_update_trains_for_update_epochs():
    watch = Watch()
    model = make_model(callbacks=[watch], update_epochs=4).fit(make_log())
    watch.clear()
    news = make_log(3, seed=1, begin=START + 10_000)
    model.partial_fit(news)
    assert sorted(watch.query_times) == sorted(4 * news.timestamp.tolist())
    assert len(watch.states) == 4


def test_dropout_and_truncated_histories_are_used_in_fit_only():
    """An update disables both."""
    seen = set()

    class WatchDropout(Callback):
        def on_grad_computed(self, net, batch, **kwargs):
            module = net.module_
            seen.add(("truncated", module._draw_history_lengths(batch[0]["item"]) is not None))
            seen.update(("drops", d.training) for d in module.modules() if isinstance(d, Dropout))

    model = make_model(history_dropout=0.4, callbacks=[WatchDropout()]).fit(make_log())
    assert seen == {("truncated", True), ("drops", True)}
    seen.clear()
    model.partial_fit(make_log(3, seed=1, begin=START + 10_000))
    assert seen == {("truncated", False), ("drops", False)}
    assert model.module_.augment
    assert not any(part.training for part in model.module_.modules())


@pytest.mark.parametrize("batch_size", [-1, 4096])
def test_an_update_moves_items_with_more_events_less(batch_size):
    """An item of n events has the learning rate of a fit times rate ** (n / (n + 100)).

    The rate is proportional to the fraction of new events in a batch.
    """
    model = make_model(2, update_epochs=1, batch_size=batch_size, clip=np.inf).fit(make_log(200))
    news = make_log(3, seed=1, begin=START + 10**6)
    news.loc[news.user_id == 3, "item_id"] = 99
    filled = 1 if batch_size == -1 else len(news) / batch_size
    steps = []
    for rate in (1 / filled, 0.03):  # the first is that of a fit
        twin = copy.deepcopy(model)
        twin.net_.policy = replace(
            twin.net_.policy, update_rate=rate, warmup=0, schedule="constant"
        )
        begun = twin.module_.embedding.detach()[:N_ITEMS].clone()
        twin.partial_fit(news)
        steps.append((twin.module_.embedding.detach()[:N_ITEMS] - begun).numpy())
    n = model._model.counts.n_events + np.bincount(
        model._model.items.encode(news.item_id.to_numpy())[news.user_id != 3], minlength=N_ITEMS
    )
    expected = (0.03 * filled) ** (n / (n + 100))
    np.testing.assert_allclose(steps[1], expected[:, None] * steps[0], rtol=1e-3, atol=1e-7)
