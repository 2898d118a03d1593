"""`RowAdamW`: rows without a gradient keep their bits, the others move as Adam moves them."""

import torch
from torch import nn
from torch.nn import functional

from sklearn_recft.training import RowAdamW


def steps(optimizer, table, batches, sparse):
    """Take a step for each batch of codes."""
    for number, codes in enumerate(batches):
        optimizer.zero_grad()
        rows = functional.embedding(torch.tensor(codes), table, sparse=sparse)
        (rows * (number + 1.0)).square().sum().backward()
        optimizer.step()


def tables():
    start = torch.linspace(-1, 1, 8, dtype=torch.float32).reshape(4, 2)
    return nn.Parameter(start.clone()), nn.Parameter(start.clone())


def test_rows_in_every_batch_move_as_in_adam():
    ours, theirs = tables()
    batches = [[0, 1, 1], [0, 1], [1, 0, 0]]
    steps(RowAdamW([ours], lr=0.1), ours, batches, sparse=True)
    steps(torch.optim.Adam([theirs], lr=0.1), theirs, batches, sparse=False)
    torch.testing.assert_close(ours, theirs)


def test_rows_without_a_gradient_keep_their_bits():
    for kind, sparse in ((RowAdamW, True), (torch.optim.Adam, False)):
        table, _ = tables()
        optimizer = kind([table], lr=0.1)
        steps(optimizer, table, [[0, 1]], sparse=sparse)
        before = table.detach().clone()
        steps(optimizer, table, [[0], [0]], sparse=sparse)
        assert torch.equal(table[2:], before[2:])
        assert (table[0] != before[0]).all()
        assert torch.equal(table[1], before[1]) == sparse  # Adam goes on moving it


def test_a_new_row_takes_the_first_step_of_adam():
    ours, theirs = tables()
    optimizer = RowAdamW([ours], lr=0.1)
    steps(optimizer, ours, [[0]] * 5 + [[2]], sparse=True)
    steps(torch.optim.Adam([theirs], lr=0.1), theirs, [[2]], sparse=False)
    torch.testing.assert_close(ours[2], theirs[2])


def test_other_parameters_are_those_of_adamw():
    table, _ = tables()
    weights = [nn.Parameter(torch.ones(3, dtype=torch.float32)) for _ in range(2)]
    ours = RowAdamW([table, weights[0]], lr=0.1, weight_decay=0.1)
    theirs = torch.optim.AdamW([weights[1]], lr=0.1, weight_decay=0.1)
    for optimizer, weight in zip((ours, theirs), weights, strict=True):
        weight.square().sum().backward()
        if optimizer is ours:
            functional.embedding(torch.tensor([1]), table, sparse=True).sum().backward()
        optimizer.step()
    assert torch.equal(*weights)
