"""The training policy against plain torch loops."""

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from sklearn_recft.training import PLAIN, Policy, checkpoint, grow_optimizer
from tests.training.nets import fit_net, net_with

RATES = {"backbone": 0.1, "embedding": 0.5}


class Small(nn.Module):
    """A score from a table, a body and a head, with a decay rate; records its inputs."""

    def __init__(self, n_codes=6):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(n_codes, 4, generator=generator))
        self.body = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.fade = nn.Parameter(torch.full((2, 2), 0.3))
        self.head = nn.Linear(4, 1)
        for parameter in (self.body.weight, self.head.weight):
            parameter.data = torch.randn(parameter.shape, generator=generator) / 2
        for parameter in (self.body.bias, self.head.bias):
            parameter.data = torch.randn(parameter.shape, generator=generator) / 2
        self.seen = []

    def parameter_groups(self):
        return {
            "embedding": [self.table],
            "backbone": [*self.body.parameters(), *self.norm.parameters()],
            "decay": [self.fade],
        }

    def forward(self, code):
        hidden = self.norm(self.body(self.table[code]).tanh())
        self.seen.append((self.training, self.table.detach().clone(), hidden.dtype))
        return self.head(hidden)[:, 0] * torch.exp(-self.fade.sum())


class MeanLoss(nn.Module):
    """Mean log loss of the target's first column."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def forward(self, score, target):
        self.dtypes.add(score.dtype)
        return nn.functional.binary_cross_entropy_with_logits(score, target[:, 0])


def rows(n=40, n_codes=6):
    rng = np.random.default_rng(0)
    target = np.column_stack([rng.random(n) < 0.5, np.ones(n)]).astype(np.float32)
    return {"code": rng.integers(0, n_codes, n)}, target


def net_of(policy=None, *, module=None, learning_rate=0.05, **net_params):
    module = Small() if module is None else module
    return net_with(
        module, MeanLoss(), policy, learning_rate=learning_rate, max_epochs=3, **net_params
    )


def assert_same_weights(module, twin, atol=1e-6):
    for (name, one), other in zip(module.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=0, atol=atol, err_msg=name)


def as_lists(value):
    if isinstance(value, dict):
        return {key: as_lists(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_lists(part) for part in value]
    return value.tolist() if torch.is_tensor(value) else value


def moved(module):
    return {
        name: not torch.equal(one, other)
        for (name, one), other in zip(
            module.named_parameters(), Small().parameters(), strict=True
        )
    }  # fmt: skip


class Rates(Callback):
    """Record the learning rate of each group after each batch."""

    def on_train_begin(self, net, **kwargs):
        self.rates = []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.rates.append([group["lr"] for group in net.optimizer_.param_groups])


# ------------------------------------------------------------------------ groups and schedule


def test_every_parameter_is_in_one_group():
    net = net_of(Policy(rates=RATES, weight_decay=0.2))
    names = {id(parameter): name for name, parameter in net.module_.named_parameters()}
    found = {}
    for group in net.optimizer_.param_groups:
        for parameter in group["params"]:
            assert id(parameter) in names
            name = names.pop(id(parameter))
            found[name] = round(group["lr"], 12), group["weight_decay"]
    assert names == {}
    assert found == {
        "table": (0.025, 0.2), "fade": (0.05, 0.0),
        "body.weight": (0.005, 0.2), "body.bias": (0.005, 0.0),
        "norm.weight": (0.005, 0.0), "norm.bias": (0.005, 0.0),
        "head.weight": (0.05, 0.2), "head.bias": (0.05, 0.0),
    }  # fmt: skip


def test_without_groups_all_parameters_are_other():
    module = nn.Module()
    module.item_bias = nn.Parameter(torch.zeros(5, 1))
    module.factors = nn.Parameter(torch.zeros(1, 5))
    groups = Policy().groups(module, module.named_parameters(), 1.0)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("other without decay", 1.0, 0.0), ("other", 1.0, 0.01),
    ]  # fmt: skip
    assert groups[0]["params"] == [module.item_bias]


@pytest.mark.parametrize(
    ("policy", "n_steps", "factors"),
    [
        (Policy(warmup=0.0), 4, [1, 3 / 4, 2 / 4, 1 / 4]),
        (Policy(warmup=0.4), 5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        (Policy(warmup=0.4, schedule="constant"), 5, [1 / 3, 2 / 3, 1, 1, 1]),
        (Policy(warmup=1.0), 2, [1 / 3, 2 / 3]),
        (Policy(), 1, [1]),
    ],
)
def test_the_schedule_equals_its_formula(policy, n_steps, factors):
    assert [policy.factor(step, n_steps) for step in range(n_steps)] == pytest.approx(factors)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 10), (2, 6)])
def test_the_schedule_spans_all_epochs_of_a_call(accumulate, steps):
    watch = Rates()
    policy = Policy(rates=RATES, warmup=0.2, accumulate=accumulate)
    net = net_of(policy, batch_size=8, callbacks=[watch])  # 5 batches an epoch
    ends = [4, 9] if accumulate == 1 else [1, 3, 4, 6, 8, 9]
    for _ in range(2):
        fit_net(net, *rows(), epochs=2, seed=0)
        at_steps = watch.rates if accumulate == 1 else [watch.rates[end] for end in ends]
        assert len(at_steps) == steps
        for name, factor in (("embedding", 0.5), ("backbone", 0.1), ("decay without decay", 1)):
            place = [g["name"] for g in net.optimizer_.param_groups].index(name)
            expected = [0.05 * factor * policy.factor(step, steps) for step in range(steps)]
            assert [rates[place] for rates in at_steps] == pytest.approx(expected)
        for group in net.optimizer_.param_groups:
            assert group["lr"] == group["initial_lr"]


@pytest.mark.parametrize("update_rate", [0.25, 1.0])
def test_an_update_uses_the_update_rate(update_rate):
    watch = Rates()
    policy = Policy(rates={"decay": 0.5}, warmup=0.4, update_rate=update_rate)
    net = net_of(policy, learning_rate=1.0, batch_size=8, callbacks=[watch])
    fit_net(net, *rows(), epochs=1, seed=0, update=True)
    place = [g["name"] for g in net.optimizer_.param_groups].index("decay without decay")
    assert [rates[place] for rates in watch.rates] == pytest.approx([update_rate / 2] * 5)


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("update_rate", [0.25, 0.0, 1.0])
def test_rows_of_low_confidence_take_larger_steps_in_an_update(update_rate, update):
    """The steps of a row are scaled by the update rate to the power of its confidence."""
    known = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0, 0.0])
    moved = []
    for familiar in (False, True):
        module = Small()
        if familiar:
            module.row_confidence = lambda table=module.table: {table: known}
        policy = Policy(rates={}, weight_decay=0.0, update_rate=update_rate)
        net = net_of(policy, module=module, learning_rate=0.1, batch_size=-1)
        before = module.table.detach().clone()
        fit_net(net, *rows(), epochs=1, seed=0, update=update)
        moved.append((module.table - before).detach().numpy())
    factor = update_rate ** (known.numpy() - 1) if update and update_rate else np.ones(6)
    np.testing.assert_allclose(moved[1], factor[:, None] * moved[0], rtol=1e-4, atol=1e-7)
    assert moved[1].any() == (not update or update_rate != 0)


@pytest.mark.parametrize(
    ("n_targets", "batch_size", "filled"), [(10, 8, 0.25), (400, 8, 1), (10, -1, 1), (None, 8, 1)]
)
def test_an_update_with_few_targets_takes_smaller_steps(n_targets, batch_size, filled):
    watch, module = Rates(), Small()
    module.row_confidence = lambda table=module.table: {table: torch.tensor([0.0, 1, 1, 1, 1, 0.5])}
    policy = Policy(rates={}, weight_decay=0.0, update_rate=0.2)
    net = net_of(policy, module=module, learning_rate=1.0, batch_size=batch_size, callbacks=[watch])
    fit_net(net, *rows(), epochs=2, seed=0, update=True, n_targets=n_targets)
    rate = 0.2 * filled
    assert np.ravel(watch.rates) == pytest.approx(np.full(np.size(watch.rates), rate))
    # What is new goes at the rate of a fit, whatever there is to learn.
    [(_, rows_of)] = policy.row_factors(module, filled).items()
    np.testing.assert_allclose(rate * rows_of.numpy(), [1, rate, rate, rate, rate, rate**0.5])


def test_a_fit_with_few_targets_takes_full_steps():
    moved = []
    for n_targets in (1, None):
        module = Small()
        net = net_of(Policy(), module=module, learning_rate=0.1, batch_size=8)
        fit_net(net, *rows(), epochs=1, seed=0, n_targets=n_targets)
        moved.append(module.table.detach().numpy().copy())
    np.testing.assert_array_equal(*moved)


# ------------------------------------------------------------------------- steps, by hand


def by_hand(module, *, accumulate, adversarial, clip, epochs, seed, batch_size=8):
    """Train by a plain torch loop with the policy of `test_training_equals_a_plain_loop`."""
    columns, target = rows()
    code, target = torch.as_tensor(columns["code"]), torch.as_tensor(target)
    decayed = [module.table, module.body.weight, module.head.weight]
    full = [0.025, 0.005, 0.05, 0.005, 0.05]
    spared_body = [module.body.bias, *module.norm.parameters()]
    groups = [[p] for p in decayed] + [spared_body, [module.fade, module.head.bias]]
    optimizer = torch.optim.AdamW(
        [{"params": g, "weight_decay": 0.2 if i < 3 else 0.0} for i, g in enumerate(groups)]
    )
    loss = MeanLoss()
    n_steps = epochs * math.ceil(math.ceil(40 / batch_size) / accumulate)
    rising, step = round(0.25 * n_steps), 0
    torch.manual_seed(seed)
    for _ in range(epochs):
        batches = torch.randperm(40).split(batch_size)
        for window in range(0, len(batches), accumulate):
            together = batches[window : window + accumulate]
            total = [torch.zeros_like(p) for p in module.parameters()]
            for batch in together:
                value = loss(module(code[batch]), target[batch]) / len(together)
                gradients = torch.autograd.grad(value, list(module.parameters()))
                total = [t + g for t, g in zip(total, gradients, strict=True)]
                if adversarial:
                    before = module.table.data.clone()
                    gradient = gradients[0]
                    module.table.data = before + adversarial * gradient / gradient.norm()
                    value = loss(module(code[batch]), target[batch]) / len(together)
                    gradients = torch.autograd.grad(value, list(module.parameters()))
                    total = [t + g for t, g in zip(total, gradients, strict=True)]
                    module.table.data = before
            length = math.sqrt(sum(t.square().sum().item() for t in total))
            for parameter, gradient in zip(module.parameters(), total, strict=True):
                parameter.grad = gradient * min(1.0, clip / length)
            factor = (
                (step + 1) / (rising + 1) if step < rising
                else (n_steps - step) / (n_steps - rising)
            )  # fmt: skip
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            step += 1
    assert step == n_steps


@pytest.mark.parametrize("adversarial", [0.0, 0.7])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_equals_a_plain_loop(accumulate, adversarial):
    policy = Policy(
        rates=RATES, weight_decay=0.2, warmup=0.25, clip=0.1, accumulate=accumulate,
        adversarial=adversarial,
    )  # fmt: skip
    net, twin = net_of(policy, batch_size=8), Small()
    fit_net(net, *rows(), epochs=3, seed=7)
    with torch.random.fork_rng(devices=[]):
        by_hand(twin, accumulate=accumulate, adversarial=adversarial, clip=0.1, epochs=3, seed=7)
    assert all(moved(twin).values())
    assert_same_weights(net.module_, twin)


def test_accumulated_batches_equal_one_large_batch():
    # 10 batches of 4 rows: steps of 16, 16 and 8 rows.
    nets = [
        net_of(Policy(accumulate=k), batch_size=size, iterator_train__shuffle=False)
        for k, size in ((4, 4), (1, 16))
    ]
    for net in nets:
        fit_net(net, *rows(), epochs=3, seed=0)
    assert all(moved(nets[0].module_).values())
    assert_same_weights(nets[0].module_, nets[1].module_)


# ------------------------------------------------------------------------- perturbation


def test_a_perturbation_has_its_norm_and_is_removed():
    policy = Policy(adversarial=0.5)
    net = net_of(policy, learning_rate=0.0, batch_size=8)
    start = copy.deepcopy(net.module_.state_dict())
    fit_net(net, *rows(), epochs=2, seed=0)
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, start[name]), name
    tables = [table for _, table, _ in net.module_.seen]
    assert len(tables) == 2 * 10
    assert all(torch.equal(table, start["table"]) for table in tables[::2])
    for table in tables[1::2]:
        assert torch.linalg.norm(table - start["table"]).item() == pytest.approx(0.5, rel=1e-5)


def test_a_failing_perturbed_pass_removes_the_perturbation():
    class Fails(Small):
        def forward(self, code):
            if len(self.seen) == 5:
                raise RuntimeError("the third perturbed pass")
            return super().forward(code)

    net = net_of(Policy(adversarial=0.5), module=Fails(), learning_rate=0.0, batch_size=8)
    with pytest.raises(RuntimeError, match="third perturbed"):
        fit_net(net, *rows(), epochs=1, seed=0)
    assert not torch.equal(net.module_.seen[1][1], Small().table)
    assert torch.equal(net.module_.table, Small().table)


def test_a_zero_gradient_gives_no_perturbation():
    module = Small()
    module.head.weight.data.zero_()  # so that no gradient reaches the table
    net = net_of(Policy(adversarial=0.5), module=module, learning_rate=0.0)
    fit_net(net, *rows(), epochs=1, seed=0)
    assert len(module.seen) == 2
    assert torch.equal(module.seen[1][1], module.seen[0][1])


# ------------------------------------------------------------------------- early stopping


class Weights(Callback):
    """Record the weights after each epoch, and the training and validation codes."""

    def on_train_begin(self, net, **kwargs):
        self.states, self.losses, self.train, self.valid = [], [], set(), set()

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        (self.train if training else self.valid).update(batch[0]["code"].tolist())

    def on_epoch_end(self, net, **kwargs):
        self.states.append(copy.deepcopy(net.module_.state_dict()))
        self.losses.append(net.history[-1].get("valid_loss"))


def test_early_stopping_restores_the_best_epoch_on_the_newest_rows():
    columns, target = {"code": np.arange(40) % 6}, np.ones((40, 2), np.float32)
    target[::3, 0] = 0
    target[36:, 0] = 1 - target[36:, 0]  # what is learned is soon wrong of the last rows
    watch, module = Weights(), Small()
    module.fade.data.zero_()
    module.head.bias.data.fill_(4.0)  # which is wrong of all rows, and learned first
    policy = Policy(rates=RATES, patience=2, warmup=0.0, schedule="constant")
    net = net_of(policy, module=module, learning_rate=0.02, batch_size=8, callbacks=[watch])
    fit_net(net, columns, target, epochs=60, seed=0)
    best = int(np.argmin(watch.losses))
    assert len(watch.losses) == best + 3 < 60
    assert best > 0
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, watch.states[best][name]), name
        assert not torch.equal(value, watch.states[-1][name]), name
    assert [c.best_model_weights_ for _, c in net.callbacks_ if hasattr(c, "patience")] == [None]


def test_validation_rows_are_the_newest_and_an_update_has_none():
    columns, target = rows(50, n_codes=50)
    columns["code"] = np.arange(50)
    watch = Weights()
    policy = Policy(patience=1, validation_fraction=0.2)
    net = net_of(policy, module=Small(50), batch_size=8, callbacks=[watch])
    for _ in range(2):
        fit_net(net, columns, target, epochs=2, seed=0)
        assert watch.train == set(range(40))
        assert watch.valid == set(range(40, 50))
        fit_net(net, columns, target, epochs=4, seed=0, update=True)
        assert watch.train == set(range(50))
        assert watch.valid == set()
        assert watch.losses == [None] * 4


# ------------------------------------------------------------------------- bfloat16


def test_training_in_bfloat16_on_request():
    policy = Policy(bf16=True, patience=5)
    net, exact = net_of(policy, batch_size=8), net_of(Policy(patience=5), batch_size=8)
    for each in (net, exact):
        fit_net(each, *rows(), epochs=2, seed=0)
    # `layer_norm` gives float32 back under autocast on some devices; the head does not.
    assert {dtype for training, _, dtype in exact.module_.seen} == {torch.float32}
    assert net.criterion_.dtypes == {torch.float32}
    assert {p.dtype for p in net.module_.parameters()} == {torch.float32}
    assert {dtype for training, _, dtype in net.module_.seen if not training} == {torch.float32}
    differs = [
        not torch.equal(one, other)
        for one, other in zip(net.module_.parameters(), exact.module_.parameters(), strict=True)
    ]
    assert all(differs)
    assert_same_weights(net.module_, exact.module_, atol=0.05)


# ------------------------------------------------------------------------- names and values


def test_net_params_override_the_policy():
    net = net_of(Policy(), optimizer=torch.optim.SGD, optimizer__momentum=0.5)
    assert isinstance(net.optimizer_, torch.optim.SGD)
    assert {group["momentum"] for group in net.optimizer_.param_groups} == {0.5}
    net = net_of(Policy(), optimizer__weight_decay=0.7)
    assert {group["weight_decay"] for group in net.optimizer_.param_groups} == {0.0, 0.7}
    net = net_of(Policy(), optimizer__param_groups=[("head*", {"lr": 7.0})])
    assert [group["initial_lr"] for group in net.optimizer_.param_groups] == [7.0, 0.05]


def test_clipping_only_equals_adam_with_clipping():
    policy = replace(PLAIN, clip=0.01)
    net, twin = net_of(policy, batch_size=-1, iterator_train__shuffle=False), Small()
    fit_net(net, *rows(), epochs=4, seed=0)
    columns, target = rows()
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        MeanLoss()(twin(torch.as_tensor(columns["code"])), torch.as_tensor(target)).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
        optimizer.step()
    assert_same_weights(net.module_, twin)


def test_an_infinite_clip_disables_clipping():
    nets = [net_of(Policy(clip=clip)) for clip in (math.inf, 1e30)]
    for net in nets:
        fit_net(net, *rows(), epochs=3, seed=0)
    assert_same_weights(nets[0].module_, nets[1].module_, atol=0)
    assert moved(nets[0].module_)["table"]


class Recorded(Callback):
    """Keep a copy of the weights after each step."""

    def on_train_begin(self, net, **kwargs):
        self.weights = []

    def on_batch_end(self, net, training=False, **kwargs):
        self.weights.append([p.detach().clone() for p in net.module_.parameters()])


@pytest.mark.parametrize(("average", "n_averaged"), [(0.5, 8), (0.3, 5), (1.0, 15), (0.0, 1)])
def test_a_fit_ends_with_the_mean_of_the_last_weights(average, n_averaged):
    callback = Recorded()
    policy = Policy(average=average, schedule="constant")
    net = net_of(policy, batch_size=8, callbacks=[callback])
    fit_net(net, *rows(), epochs=3, seed=0)  # 15 steps
    assert len(callback.weights) == 15
    last = callback.weights[-n_averaged:]
    for parameter, *values in zip(net.module_.parameters(), *last, strict=True):
        mean = torch.stack(values).mean(0)
        np.testing.assert_allclose(parameter.detach(), mean, rtol=0, atol=1e-6)


def test_an_update_ends_with_the_weights_of_its_last_step():
    nets = [net_of(Policy(average=average), batch_size=8) for average in (0.0, 0.5)]
    for net in nets:
        fit_net(net, *rows(), epochs=2, seed=0, update=True)
    assert_same_weights(nets[0].module_, nets[1].module_, atol=0)


def test_a_failing_fit_has_no_mean_weights():
    nets = [
        net_of(Policy(average=average), batch_size=8, callbacks=[("fail", Fail(RuntimeError("x")))])
        for average in (0.0, 1.0)
    ]
    for net in nets:
        with pytest.raises(RuntimeError, match="x"):
            fit_net(net, *rows(), epochs=4, seed=0)
        assert net.call_ is None
    assert_same_weights(nets[0].module_, nets[1].module_, atol=0)


def test_a_plain_policy_makes_a_plain_net():
    assert type(net_of()) is type(net_of(replace(PLAIN, update_epochs=4))) is NeuralNet
    for change in ({"clip": 9.0}, {"warmup": 0.1}, {"average": 0.5}, {"patience": 2}):
        assert type(net_of(replace(PLAIN, **change))) is not NeuralNet


def test_adversarial_without_embeddings_raises():
    with pytest.raises(ValueError, match=r"adversarial=0.5: .*no item embeddings"):
        net_of(Policy(adversarial=0.5), module=nn.Linear(1, 1))
    # The rate of a group that a net does not have has no effect.
    assert len(net_of(Policy(rates=RATES), module=nn.Linear(1, 1)).optimizer_.param_groups) == 2


# ------------------------------------------------------------------------- a user's scheduler


@pytest.mark.parametrize("policy", [None, Policy(warmup=0.5), Policy(warmup=0.5, accumulate=2)])
def test_a_scheduler_of_the_user_replaces_the_schedule(policy):
    watch = Rates()
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.1)
    net = net_of(policy, learning_rate=1.0, batch_size=20, callbacks=[watch, scheduler])
    fit_net(net, *rows(), epochs=3, seed=0)
    assert [rates[0] for rates in watch.rates] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("step_every", ["batch", "epoch"])
def test_an_update_scales_the_steps_of_a_users_scheduler(step_every):
    used = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            used.append(self.param_groups[0]["lr"])
            return super().step(closure)

    for policy in (None, Policy(update_rate=0.1)):
        scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5, step_every=step_every)
        net = net_of(
            policy, learning_rate=1.0, batch_size=20, callbacks=[scheduler], optimizer=Watched
        )
        fit_net(net, *rows(), epochs=2, seed=0)
        fit_net(net, *rows(), epochs=2, seed=0, update=True)
    plain, tuned = np.reshape(used, (2, 2, 4))
    assert len(set(plain[0])) == (4 if step_every == "batch" else 2)
    np.testing.assert_allclose(tuned, plain * [[1], [0.1]])


# ------------------------------------------------------------------------- the walls hold


def test_training_has_no_global_effects_and_depends_on_the_seed():
    policy = Policy(adversarial=0.1, patience=1, accumulate=2)
    nets = [net_of(policy, batch_size=8) for _ in range(3)]
    before = torch.get_rng_state()
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        fit_net(net, *rows(), epochs=2, seed=seed)
    one, same, other = (as_lists(net.module_.state_dict()) for net in nets)
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), before)


class Fail(Callback):
    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, **kwargs):
        if net.history[-1]["epoch"] > 2:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x")])
def test_a_failing_call_can_be_rolled_back(error):
    policy = Policy(patience=3, accumulate=2, adversarial=0.2)
    nets = [net_of(policy, batch_size=8, callbacks=[("fail", Fail(error))]) for _ in range(2)]
    for net in nets:
        fit_net(net, *rows(), epochs=2, seed=0)
    net, twin = nets
    restore = checkpoint(net, weights=True)
    kept = as_lists([list(net.history), net.optimizer_.state_dict()])
    grown = torch.cat([net.module_.table.data, torch.zeros(3, 4)])
    net.module_.table.data = grown
    net.module_.table.grad = None
    with pytest.raises(type(error)):
        fit_net(net, *rows(n_codes=9), epochs=2, seed=1)
    assert net.train_split is not None
    assert {name for name, _ in net.callbacks_} >= {"early_stopping", "fail"}
    restore()
    assert as_lists([list(net.history), net.optimizer_.state_dict()]) == kept
    assert_same_weights(net.module_, twin.module_, atol=0)
    for each in nets:
        each.history_ = type(each.history_)()
        fit_net(each, *rows(), epochs=2, seed=2)
    assert_same_weights(net.module_, twin.module_, atol=0)


def test_moments_are_carried_through_growth():
    module = Small()
    net = net_of(Policy(), module=module)
    fit_net(net, *rows(), epochs=2, seed=0)
    before = net.optimizer_.state[module.table]["exp_avg"].clone()
    module.table.data = torch.cat([module.table.data, torch.zeros(3, 4)])
    module.table.grad = None
    grow_optimizer(net)
    now = net.optimizer_.state[module.table]["exp_avg"]
    assert torch.equal(now[:6], before)
    assert before.any()
    assert not now[6:].any()
    fit_net(net, *rows(n_codes=9), epochs=1, seed=0, update=True)
    assert module.table.data[6:].any()


def test_the_history_is_bounded_and_a_copy_continues_equally():
    net = net_of(Policy(patience=2), batch_size=4)
    for call in range(4):
        fit_net(net, *rows(), epochs=2, seed=call)
        assert len(net.history) == 2
        assert [len(epoch["batches"]) for epoch in net.history] == [1, 1]
        assert all(epoch["train_loss"] > 0 for epoch in net.history)
    nets = [net, pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    for each in nets:
        fit_net(each, *rows(), epochs=2, seed=9)
    for other in nets[1:]:
        assert_same_weights(net.module_, other.module_, atol=0)


def test_partial_fit_of_skorch_trains_for_max_epochs():
    watch = Rates()
    policy = Policy(rates={}, warmup=0.0)
    net = net_of(policy, learning_rate=1.0, batch_size=20, callbacks=[watch])
    net.partial_fit(*rows())
    assert [rates[0] for rates in watch.rates] == pytest.approx([6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6,
                                                                 1 / 6])  # fmt: skip
