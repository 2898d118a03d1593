"""Whitened text vectors and user profiles against plain loops."""

import numpy as np
import pytest
import torch

from sklearn_recft.modules._content import Content

N, TEXT_WIDTH, WIDTH, LENGTH = 40, 7, 5, 6


def some_texts(n=N):
    """Text vectors with one coordinate of a much larger scale than the others."""
    scale = np.array([9, 1, 1, 1, 1, 1, 0.5])
    return torch.from_numpy(np.random.default_rng(0).normal(2, scale, (n, TEXT_WIDTH))).float()


def make_content(max_history=LENGTH):
    content = Content(TEXT_WIDTH, WIDTH, max_history)
    with torch.no_grad():
        content.mix.weight.normal_(generator=torch.Generator().manual_seed(0))
    return content


def test_vectors_are_whitened_and_normalized():
    content, texts = make_content(), some_texts()
    content.fit_whitening(texts)
    white = ((texts - texts.mean(0)) @ content.axes).numpy()
    np.testing.assert_allclose(white.T @ white / N, np.eye(WIDTH), atol=1e-4)
    found = content(texts)
    assert found.shape == (N, WIDTH)
    np.testing.assert_allclose(found.norm(dim=1), 0.1 * np.sqrt(3 * WIDTH), rtol=1e-5)
    directions = white / np.linalg.norm(white, axis=1, keepdims=True)
    np.testing.assert_allclose(found / found.norm(dim=1, keepdim=True), directions, atol=1e-5)
    # The axis of the largest variance is factor, and its scale is that of the others.
    variance = np.cov(texts.numpy().T, bias=True)
    assert 1 / content.axes[:, 0].norm() ** 2 == pytest.approx(
        np.linalg.eigvalsh(variance)[-1], rel=1e-3
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_texts_have_finite_vectors(n):
    content, texts = make_content(), some_texts(n)
    content.fit_whitening(texts)
    assert content(some_texts()).isfinite().all()


@pytest.mark.parametrize("max_history", [2, LENGTH, 9])
def test_profiles_are_moving_averages_of_the_past(max_history):
    content = make_content(max_history)
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(3, LENGTH, WIDTH, generator=generator)
    past = torch.randn(3, LENGTH, WIDTH, generator=generator)
    expected = np.zeros((3, LENGTH, WIDTH))
    for row in range(3):
        for position in range(LENGTH):
            weights = content.mix(states[row, position]).tolist()
            for weight, factor in zip(weights, (0.0, 0.7, 0.95), strict=True):
                for lag in range(min(position + 1, max_history)):
                    share = (1 - factor) * factor**lag
                    expected[row, position] += weight * share * past[row, position - lag].numpy()
    with torch.no_grad():
        found = content.profile(states, past, None)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        position = torch.tensor([[4, 0, 2]]).expand(3, -1)
        some = content.profile(states[:, [4, 0, 2]], past, position)
    np.testing.assert_allclose(some, expected[:, [4, 0, 2]], atol=1e-5)


def test_rare_items_get_a_similarity_to_the_last_event():
    content, texts = make_content(), some_texts()
    content.fit_whitening(texts)
    vectors, n_events = content(texts), torch.arange(N) ** 2.0
    found = content.scale_by_rarity(vectors, n_events) @ vectors[3]
    unit = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    expected = unit @ unit[3] * 2 / (np.arange(N) ** 2 + 2)
    assert content.similarity_weight.item() == 8
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
