"""Adam without torch's compiler takes the steps of torch's Adam."""

import sys
from functools import partial

import pytest
import torch

from sklearn_recft.training._eager import EagerAdam, EagerAdamW


def steps(make, options, closure=False):
    """Return parameters and losses of three steps; each loads the state of the one before."""
    weight, bias = torch.linspace(-1, 1, 6, requires_grad=True), torch.ones(2, requires_grad=True)
    losses, saved = [], None

    def loss():
        optimizer.zero_grad()
        value = (weight.exp() * weight).sum() + (bias.exp() * bias).sum()
        value.backward()
        losses.append(value.detach())
        return value

    for _ in range(3):
        optimizer = make([weight], lr=0.1, **options)
        optimizer.add_param_group({"params": [bias], "lr": 0.5})
        if saved is not None:
            optimizer.load_state_dict(saved)
        if closure:
            assert torch.equal(optimizer.step(loss), losses[-1])
        else:
            loss()
            optimizer.step()
        saved = optimizer.state_dict()
    assert torch.is_grad_enabled()
    return [weight.detach(), bias.detach(), *losses]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(EagerAdam, torch.optim.Adam), (EagerAdamW, torch.optim.AdamW)]
)
@pytest.mark.parametrize(
    "options", [{}, {"fused": True}, {"foreach": True}, {"weight_decay": 0.3, "amsgrad": True}]
)
def test_steps_are_those_of_torch(ours, theirs, options):
    for closure in (False, True):
        assert all(map(torch.equal, steps(ours, options, closure), steps(theirs, options, closure)))


def test_no_step_loads_the_compiler(monkeypatch):
    expected = first_step(torch.optim.Adam)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error
    with pytest.raises(ImportError):
        first_step(torch.optim.Adam)
    for make in (EagerAdam, partial(EagerAdamW, weight_decay=0.0)):
        assert torch.equal(first_step(make), expected)


def first_step(make):
    weight = torch.linspace(-1, 1, 6, requires_grad=True)
    optimizer = make([weight])
    optimizer.zero_grad()
    weight.square().sum().backward()
    optimizer.step()
    return weight.detach()
