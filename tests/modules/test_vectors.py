"""Given vectors of items: standardized, whitened and beside texts."""

import numpy as np
import torch
from numpy.testing import assert_allclose

from sklearn_recft.modules._content import Content
from sklearn_recft.modules._vectors import ProjectedVectors, WhitenedVectors


def vectors(n=50, width=5, seed=0):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** np.arange(width)
    return (scale * (2 + rng.normal(size=(n, width)))).astype(np.float32)


def test_whitened_vectors_have_no_units_and_a_missing_one_is_zero():
    given = torch.from_numpy(vectors())
    given[3] = torch.nan
    module = WhitenedVectors(5, 4)
    module.fit(given)
    found = module(given)
    assert not found[3].any()
    lengths = found.norm(dim=1).numpy()
    assert_allclose(np.delete(lengths, 3), lengths[0], rtol=1e-5)
    other = WhitenedVectors(5, 4)
    other.fit(7 * given + 1)
    again = other(7 * given + 1)
    assert_allclose((again @ again.T).numpy(), (found @ found.T).numpy(), atol=1e-4)


def test_extreme_vectors_stay_finite():
    given = np.full((4, 3), 3e38, np.float32)
    given[:2, 0] *= -1
    module = WhitenedVectors(3, 3)
    module.fit(torch.from_numpy(given))
    assert torch.isfinite(module(torch.from_numpy(-given))).all()
    projected = ProjectedVectors(3, 2, 4.0)
    projected.fit(given)
    projected.grow(4, given)
    assert torch.isfinite(projected(None)).all()
    assert projected.rows.abs().max() <= 20 * 4


def test_the_cosine_of_two_items_is_the_mean_of_both():
    texts, given = vectors(seed=1), vectors(seed=2)
    content = Content(5, 8, 10, 5)
    both = torch.from_numpy(np.hstack([texts, given]))
    content.fit(both)
    found = content(both)
    unit = content.scale_by_rarity(found, torch.zeros(len(found)))
    assert_allclose((unit * found).sum(1), 1, rtol=1e-5)
    assert_allclose((unit[0] * found[1]).sum(), (unit[1] * found[0]).sum(), rtol=1e-4)
    queries = torch.from_numpy(content.queries(texts))
    assert_allclose((queries * found).sum(1), 1, rtol=1e-5)  # with the text alone
    both[:, 5:] = torch.nan
    half = content(both)
    assert_allclose((content.scale_by_rarity(half, torch.zeros(50)) * half).sum(1), 0.5, rtol=1e-5)
