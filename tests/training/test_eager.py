"""Adam without torch's compiler takes the steps of torch's Adam."""

import sys

import pytest
import torch

from sklearn_recft.training._eager import EagerAdam, EagerAdamW


def steps(make, **options):
    weight = torch.linspace(-1, 1, 6).reshape(2, 3).requires_grad_()
    optimizer = make([weight], lr=0.1, **options)
    optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], "lr": 0.5})
    for _ in range(3):
        optimizer.zero_grad()
        sum((p.exp() * p).sum() for g in optimizer.param_groups for p in g["params"]).backward()
        optimizer.step()
    assert torch.is_grad_enabled()
    return [p.detach() for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(EagerAdam, torch.optim.Adam), (EagerAdamW, torch.optim.AdamW)]
)
@pytest.mark.parametrize("options", [{}, {"fused": True}, {"weight_decay": 0.3}])
def test_steps_are_those_of_torch_and_load_no_compiler(ours, theirs, options, monkeypatch):
    expected = steps(theirs, **options)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error
    with pytest.raises(ImportError):
        steps(theirs, **options)
    assert all(map(torch.equal, steps(ours, **options), expected))
