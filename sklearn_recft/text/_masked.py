"""Pretraining of a text encoder on texts alone: predict tokens that are masked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.parallel import n_threads, torch_threads
from sklearn_recft.text._backbone import (
    MAX_TOKENS,
    Backbone,
    BertLike,
    load_backbone,
    scratch_backbone,
    seeded,
)
from sklearn_recft.text._passes import tokenize
from sklearn_recft.text._pretrained import PretrainedBackbone

SCRATCH_RATE, OTHER_RATE = 1e-3, 5e-5  # learning rates of random and of pretrained weights
LARGEST_RATE = 1e36  # a step of AdamW must be below the largest float32
WARMUP, WEIGHT_DECAY, CLIP = 0.1, 0.01, 1.0
SORTED_BATCHES = 16  # texts of so many batches are sorted by length, to reduce padding
IGNORED = -100  # target of a token that is not masked
SHARES = 0.8, 0.9  # of masked tokens: below the first [MASK], below the second a random token


def pretrain(
    backbone: str | PretrainedBackbone,
    texts: Sequence[str],
    *,
    max_epochs: int = 10,
    mask: float = 0.15,
    learning_rate: float | None = None,
    batch_size: int = 32,
    max_tokens: int = 64,
    device: str | torch.device = "cpu",
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> PretrainedBackbone:
    """Train a text encoder on texts without labels, by masked tokens (domain adaptation).

    A share of the tokens of each text is masked, and the encoder learns to predict them from the
    others [1]_. Continued on the texts of a domain, this is domain-adaptive pretraining [2]_. It
    needs no events, so texts of items that were never seen can be used.

    Parameters
    ----------
    backbone : str or PretrainedBackbone
        Encoder to start from: ``"scratch"`` for a small one with random weights, whose tokenizer is
        trained on ``texts``; ``"auto"``, a folder or a name on the Hugging Face hub as in
        `DecayBertRecommender`; or the result of an earlier call.
    texts : sequence of str of length n
        Repeated and blank texts are left out.
    max_epochs : int, default=10
        Number of passes over the distinct texts.
    mask : float, default=0.15
        Share of the tokens to predict, above 0 and below 1; at least one of each text. Of these,
        80 % are replaced by the mask token, 10 % by a random one, and 10 % stay.
    learning_rate : float, default=None
        Largest learning rate of AdamW. It rises in the first tenth of the steps, then falls
        linearly to 0. None is 0.001 for ``"scratch"`` and 5e-5 for other encoders.
    batch_size : int, default=32
        Number of texts in a step.
    max_tokens : int, default=64
        Longer texts are truncated to this number of tokens, from 3 to 256.
    device : str or torch.device, default="cpu"
    n_jobs : int or None, default=None
        Number of threads. None is one, which is bitwise reproducible.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, masks, batches and dropout. Global generators are not changed.

    Returns
    -------
    backbone : PretrainedBackbone
        The encoder without the head that predicts tokens. Give it to an estimator as
        ``backbone=``.

    Raises
    ------
    TypeError
        If a text is no string.
    ValueError
        If all texts are blank, a parameter is out of range, the backbone cannot be loaded or has
        no mask token, or the loss is not finite.

    Notes
    -----
    The head is a linear layer, GELU and layer normalization, followed by the transposed matrix of
    token embeddings, as in BERT. The loss is the mean cross-entropy of the masked tokens.

    Each epoch costs a forward and a backward pass over the texts. It reads each distinct text once,
    so the cost depends on the catalogue, not on the number of events.

    References
    ----------
    .. [1] Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language
       understanding", NAACL 2019.
    .. [2] Gururangan et al., "Don't stop pretraining: Adapt language models to domains and tasks",
       ACL 2020.

    Examples
    --------
    >>> from sklearn_recft import DecayBertRecommender
    >>> from sklearn_recft.text import pretrain
    >>> texts = [f"{kind} {drink}" for kind in ("hot", "iced") for drink in ("tea", "milk")]
    >>> backbone = pretrain("scratch", texts, max_epochs=20, random_state=0)
    >>> backbone.losses[-1] < backbone.losses[0]
    True
    >>> DecayBertRecommender(backbone).get_params()["backbone"] is backbone
    True
    """
    if learning_rate is None:
        learning_rate = SCRATCH_RATE if backbone == "scratch" else OTHER_RATE
    options = _Options(max_epochs, mask, learning_rate, batch_size, max_tokens)
    options.check()
    where = _device_of(device)
    distinct, threads, seed = _distinct_texts(texts), n_threads(n_jobs), _seed_of(random_state)
    made = _load(backbone, distinct, seed)
    if made.tokenizer.mask_token_id is None:
        raise ValueError(
            f"backbone={backbone!r}: its tokenizer has no mask token; give an encoder that was "
            'trained by masked tokens, such as BERT, or "scratch".'
        )
    model = made.model.to(where).requires_grad_(True)
    with _seeded_on(where, seed), torch_threads(threads), torch.enable_grad():
        tokens = _Tokens(model, made.tokenizer, distinct, options, np.random.default_rng(seed))
        losses = _train(model, tokens, options)
    return PretrainedBackbone.of(model, made.tokenizer, losses)


@dataclass(frozen=True)
class _Options:
    """Options of a pretraining."""

    max_epochs: int
    mask: float
    learning_rate: float
    batch_size: int
    max_tokens: int

    def check(self) -> None:
        """Raise an error if an option is out of range."""
        for name, low, high in (
            ("max_epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("max_tokens", 3, MAX_TOKENS),
        ):
            value = getattr(self, name)
            if not _is_number(value, Integral) or not low <= value <= high:
                upper = "" if high == math.inf else f" to {high}"
                raise ValueError(f"{name}={value!r}: give an integer from {low}{upper}.")
        for name, bound in (("mask", 1.0), ("learning_rate", LARGEST_RATE)):
            value = getattr(self, name)
            if not _is_number(value, Real) or not 0 < value < bound:
                raise ValueError(f"{name}={value!r}: give a number above 0 and below {bound:g}.")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _distinct_texts(texts: Sequence[str]) -> list[str]:
    """Return the distinct texts that are not blank, in order."""
    if isinstance(texts, str):
        raise TypeError("texts: give a sequence of texts, not one text.")
    if hasattr(texts, "columns"):  # iterating over a frame would give the names of its columns
        raise TypeError("texts: this is a table. Give one column of texts, such as X['text'].")
    given = list(texts)
    wrong = [place for place, text in enumerate(given) if not isinstance(text, str)]
    if wrong:
        kind = type(given[wrong[0]]).__name__
        raise TypeError(
            f"texts: {len(wrong)} of {len(given)} are no strings, the first is number {wrong[0]} "
            f"({kind}); drop them, or convert them to strings."
        )
    distinct = [text for text in dict.fromkeys(given) if text.strip()]
    if not distinct:
        raise ValueError(
            f"texts: all {len(given)} are blank; give one text at least that has words."
        )
    return distinct


def _seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Draw a seed; None does not read the global state of NumPy."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    if random_state is None:
        return int(np.random.default_rng().integers(np.iinfo(np.int32).max))
    if not _is_number(random_state, Integral) or not 0 <= random_state < 2**32:
        raise ValueError(
            f"random_state={random_state!r}: give an integer from 0 to 2**32 - 1, a RandomState or "
            "None."
        )
    return int(random_state)


def _device_of(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, TypeError, AssertionError) as error:  # the last without CUDA
        raise ValueError(
            f"device={device!r}: give 'cpu', 'cuda' or another of torch that this machine has."
        ) from error


@contextmanager
def _seeded_on(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators of the CPU and of a GPU within the block, and restore their states."""
    with seeded(seed):
        if device.type != "cuda":
            yield
            return
        with torch.random.fork_rng(devices=[device]), torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
            yield


def _load(backbone: str | PretrainedBackbone, texts: Sequence[str], seed: int) -> Backbone:
    """Make a model of its own, which training may change, and its tokenizer."""
    if isinstance(backbone, PretrainedBackbone):
        return backbone.load()
    if not isinstance(backbone, str):
        raise TypeError(
            f"backbone={backbone!r}: give 'scratch', 'auto', a folder, a name on the Hugging Face "
            "hub, or what pretrain returned."
        )
    return scratch_backbone(texts, seed) if backbone == "scratch" else load_backbone(backbone)


class _Tokens:
    """Tokens of the texts, and batches of them in which some are masked."""

    def __init__(
        self,
        model: BertLike,
        tokenizer: Any,
        texts: Sequence[str],
        options: _Options,
        rng: np.random.Generator,
    ) -> None:
        found = tokenize(model, tokenizer, texts)
        self.rows = [_shortened(ids, options.max_tokens) for ids in found]
        special = np.array(tokenizer.all_special_ids)
        self.special, self.mask_id = special, int(tokenizer.mask_token_id)
        self.padding = int(tokenizer.pad_token_id or 0)
        self.ordinary = np.setdiff1d(np.arange(len(tokenizer)), special)
        self.rows = [ids for ids in self.rows if not np.isin(ids, special).all()]
        if not self.rows:
            raise ValueError("texts: the tokenizer finds no tokens in them; give texts with words.")
        self.mask, self.batch_size, self.rng = options.mask, options.batch_size, rng

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield masked ids, attention mask and targets, each (B, T), in random order."""
        order = self.rng.permutation(len(self.rows))
        lengths = np.array([len(self.rows[row]) for row in order])
        block = np.arange(len(order)) // (SORTED_BATCHES * self.batch_size)
        order = order[np.lexsort((lengths, block))]
        starts = self.batch_size * self.rng.permutation(len(self))
        for start in starts.tolist():
            yield self._batch([self.rows[row] for row in order[start : start + self.batch_size]])

    def _batch(self, rows: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """Pad rows, and mask some of their tokens."""
        rng, shape = self.rng, (len(rows), max(map(len, rows)))
        real = np.arange(shape[1]) < np.array([len(ids) for ids in rows])[:, None]  # (B, T)
        ids = np.full(shape, self.padding, np.int64)
        ids[real] = np.concatenate(rows)
        drawn = np.where(real & ~np.isin(ids, self.special), rng.random(shape), np.inf)
        # The smallest number of each row, so that every text has a token to predict.
        chosen = drawn <= np.maximum(self.mask, drawn.min(1))[:, None]
        chosen &= np.isfinite(drawn)
        targets = np.where(chosen, ids, IGNORED)
        kind, random_ids = rng.random(shape), rng.choice(self.ordinary, shape)
        masked, replaced = SHARES
        ids[chosen & (kind < masked)] = self.mask_id
        swapped = chosen & (masked <= kind) & (kind < replaced)
        ids[swapped] = random_ids[swapped]
        return torch.from_numpy(ids), torch.from_numpy(real), torch.from_numpy(targets)


def _shortened(ids: np.ndarray, max_tokens: int) -> np.ndarray:
    """Truncate tokens, but keep the last one, which is special in a BERT."""
    return ids if len(ids) <= max_tokens else np.append(ids[: max_tokens - 1], ids[-1])


class _Head(nn.Module):
    """Predict tokens from hidden states by the transposed matrix of token embeddings."""

    def __init__(self, embeddings: nn.Parameter, width: int) -> None:
        super().__init__()
        n_tokens, length = embeddings.shape
        self.map = nn.Linear(width, length)
        self.norm = nn.LayerNorm(length)
        self.bias = nn.Parameter(torch.zeros(n_tokens))
        self.embeddings = [embeddings]  # in a list: it is a parameter of the body

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits (n, n_tokens) of hidden states (n, width)."""
        found = self.norm(functional.gelu(self.map(hidden)))  # (n, length)
        return functional.linear(found, self.embeddings[0], self.bias)


def _train(model: BertLike, tokens: _Tokens, options: _Options) -> tuple[float, ...]:
    """Train a model with a new head; return the mean loss of each epoch."""
    device = next(model.parameters()).device
    head = _Head(model.get_input_embeddings().weight, model.config.hidden_size).to(device)
    named = [*model.named_parameters(), *head.named_parameters()]
    named = [(name, p) for name, p in named if "pooler" not in name]
    parameters = [p for _, p in named]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
    n_steps, step, losses = options.max_epochs * len(tokens), 0, []
    model.train()
    for epoch in range(options.max_epochs):
        total, count = 0.0, 0
        for ids, real, targets in tokens:
            chosen = targets != IGNORED
            hidden = model(
                input_ids=ids.to(device), attention_mask=real.to(device)
            ).last_hidden_state  # (B, T, width)
            wanted = targets[chosen].to(device)  # (n,)
            loss = functional.cross_entropy(head(hidden[chosen.to(device)]), wanted)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * _factor(step, n_steps)
            optimizer.step()
            total, count, step = total + loss.item() * len(wanted), count + len(wanted), step + 1
        losses.append(total / count)
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"learning_rate={options.learning_rate!r}: the loss of epoch {epoch + 1} is not "
                "finite; give a smaller one."
            )
    model.eval()
    first = torch.from_numpy(tokens.rows[0])[None].to(device)  # (1, T)
    # The loss is from before the last step.
    hidden = model(input_ids=first, attention_mask=torch.ones_like(first)).last_hidden_state
    if not hidden.isfinite().all():
        raise ValueError(
            f"learning_rate={options.learning_rate!r}: after the last step, the vectors of texts "
            "are not finite; give a smaller one."
        )
    return tuple(losses)


def _factor(step: int, n_steps: int) -> float:
    """Return the factor of the learning rate: a linear rise, then a linear fall to 0."""
    rising = round(WARMUP * n_steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (n_steps - step) / max(1, n_steps - rising)
