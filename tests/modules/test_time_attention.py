"""Parts of the transformer blocks: dropout by bytes, and half-lives of heads."""

import numpy as np
import pytest
import torch

from sklearn_recft.modules._time_attention import Dropout, TimedAttention

# ------------------------------------------------------------------------------------ dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_zeroes_a_share_and_scales_up_the_rest(share):
    drop = Dropout(share).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.full((401, 251), 3.0, requires_grad=True)
        found = drop(x)
        again = drop(x)
        torch.manual_seed(0)
        assert torch.equal(drop(x), found)
    assert not torch.equal(again, found)
    kept = found != 0
    assert 1 - kept.float().mean().item() == pytest.approx(share, abs=0.006)
    assert len(found[kept].unique()) == 1
    assert found.mean().item() == pytest.approx(3, rel=0.06)
    # No row or column is preferred.
    for dim in (0, 1):
        assert (1 - kept.float().mean(dim) - share).abs().max() < 0.15
    found.sum().backward()
    assert torch.equal(x.grad, found.detach() / 3)


def test_dropout_is_off_in_evaluation_mode():
    x = torch.randn(5, 7)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    half = torch.randn(5, 7).bfloat16()
    assert Dropout(0.5).train()(half).dtype == torch.bfloat16


# ----------------------------------------------------------------------------------- half-lives


@pytest.mark.parametrize("decay", ["exponential", "log"])
def test_an_event_has_half_the_weight_at_the_half_life(decay):
    attention = TimedAttention(6, 2, 4, decay, [0.5, 30.0])
    np.testing.assert_allclose(attention.half_lives(), [0.5, 30.0], rtol=1e-4)
    for head, days in enumerate((0.5, 30.0)):
        age = attention.transform_age(torch.tensor([[[days, 0.0]]]))
        bias = attention.bias(2, torch.tensor([[1]]), age)
        rows = torch.zeros(1, 2, 6)
        weight = attention.weights(rows[:, :1], rows, bias)[0, head, 0]
        assert (weight[0] / weight[1]).item() == pytest.approx(0.5, rel=1e-4)
