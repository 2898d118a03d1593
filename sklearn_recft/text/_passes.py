"""Forward passes through a BERT: full, or split between frozen and trained layers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.parallel import torch_threads
from sklearn_recft.text._backbone import (
    MAX_TOKENS,
    BertLike,
    clean,
    float32_default,
    one_at_a_time,
    tokenizers_without_threads,
)
from sklearn_recft.text._cache import RaggedRows, batches_by_length

# Number of tokens per forward pass, with padding. On one core, 4096 is 20 % slower than 1024, whose
# hidden states fit in the processor cache. Accelerators need large batches.
BATCH_TOKENS_CPU = 1024
BATCH_TOKENS = 32768
HALF_MAX = 65504.0  # largest number in half precision


def tokenize(model: BertLike, tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokenize texts; an empty text gets one padding token, so that its mean is finite."""
    return token_ids(tokenizer, texts, max_tokens(model, tokenizer))


def token_ids(tokenizer: Any, texts: Sequence[str], limit: int) -> list[np.ndarray]:
    """Tokenize texts to at most ``limit`` tokens, as `tokenize` does."""
    with one_at_a_time, tokenizers_without_threads():
        found = tokenizer(
            [clean(text) for text in texts],
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
    padding = [tokenizer.pad_token_id or 0]
    return [np.asarray(ids or padding, np.int32) for ids in found]


def max_tokens(model: BertLike, tokenizer: Any) -> int:
    """Return the maximal number of tokens per text, including special tokens."""
    # RoBERTa models start positions at 2, so two rows of the position table are unused.
    positions = getattr(model.config, "max_position_embeddings", MAX_TOKENS + 2) - 2
    return int(min(MAX_TOKENS, positions, tokenizer.model_max_length))


@contextmanager
def evaluation_mode(model: BertLike, n_threads: int) -> Iterator[None]:
    """Set evaluation mode and the number of threads within the block.

    Callers disable gradients by a decorator: an interrupt at the start of a `with` block could
    leave them disabled.
    """
    modes = {module: module.training for module in model.modules()}
    with float32_default(), torch_threads(n_threads):
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


@torch.no_grad()
def run_all(model: BertLike, tokens: Sequence[np.ndarray], n_threads: int) -> np.ndarray:
    """Run token ids through all layers; return the mean of the last states (n, width)."""
    rows = _as_rows(tokens)
    vectors = np.empty((len(tokens), model.config.hidden_size), np.float32)
    with one_at_a_time, evaluation_mode(model, n_threads):
        for batch, ids, mask in _batches(model, rows, np.arange(len(tokens))):
            hidden = model(input_ids=ids.long(), attention_mask=mask).last_hidden_state
            vectors[batch] = _mean(hidden, mask).cpu().numpy()  # (B, width)
    return vectors


@torch.no_grad()
def run_lower(
    model: BertLike, tokens: Sequence[np.ndarray], first: int, n_threads: int
) -> list[np.ndarray]:
    """Run token ids up to layer ``first``; return (length, width) arrays in half precision."""
    rows = _as_rows(tokens)
    found: list[np.ndarray] = [np.empty(0)] * len(tokens)
    with one_at_a_time, evaluation_mode(model, n_threads):
        for batch, ids, mask in _batches(model, rows, np.arange(len(tokens))):
            hidden = _input_of_layer(model, first, ids.long(), mask)  # (B, T, width)
            states = hidden.clamp(-HALF_MAX, HALF_MAX).cpu().numpy().astype(np.float16)
            for row, state in zip(batch, states, strict=True):
                found[row] = state[: len(tokens[row])]
    return found


def run_upper(model: BertLike, rows: RaggedRows, wanted: np.ndarray, first: int | None) -> Tensor:
    """Run stored states from layer ``first`` on, or token ids if None; return (n, width)."""
    top = model if first is None else _upper_part(model, first)
    order: list[np.ndarray] = [np.empty(0, np.int64)]
    vectors = [torch.empty(0, model.config.hidden_size, device=_device(model), dtype=torch.float32)]
    for batch, values, mask in _batches(model, rows, wanted):
        what = "input_ids" if first is None else "inputs_embeds"
        given = {what: values.long() if first is None else values.float()}
        with float32_default():
            hidden = top(**given, attention_mask=mask).last_hidden_state
        vectors.append(_mean(hidden, mask))
        order.append(batch)
    back = torch.from_numpy(np.argsort(np.concatenate(order))).to(_device(model))
    return torch.cat(vectors)[back]


@torch.no_grad()
def runs_in_parts(model: BertLike, tokenizer: Any, first: int) -> bool:
    """Check that the model split before layer ``first`` gives the output of the full model."""
    tokens = tokenize(model, tokenizer, ["", "one text and another, of different lengths"])
    n_threads = torch.get_num_threads()
    try:
        with one_at_a_time, evaluation_mode(model, n_threads):
            rows = RaggedRows((model.config.hidden_size,), np.float16)
            rows.append(run_lower(model, tokens, first, n_threads))
            parts = run_upper(model, rows, np.arange(2), first).cpu().numpy()
    except (AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError):
        return False
    whole = run_all(model, tokens, n_threads)
    return bool(np.abs(parts - whole).max() <= 0.01 * np.abs(whole).max())


def _as_rows(tokens: Sequence[np.ndarray]) -> RaggedRows:
    """Store token ids in one ragged array."""
    rows = RaggedRows((), np.int32)
    rows.append(tokens)
    return rows


def _device(model: BertLike) -> torch.device:
    """Return the device of a model."""
    return next(model.parameters()).device


def _batches(
    model: BertLike, rows: RaggedRows, wanted: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Yield indices into ``wanted``, padded tokens (B, T, ...) and mask (B, T) on the device."""
    device = _device(model)
    n_tokens = BATCH_TOKENS_CPU if device.type == "cpu" else BATCH_TOKENS
    for batch in batches_by_length(rows.lengths(wanted), n_tokens):
        values, mask = rows.collate(wanted[batch])
        yield batch, values.to(device), mask.to(device)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average hidden states (B, T, width) over the unmasked tokens (B, T); return (B, width)."""
    weight = mask.to(hidden.dtype)[..., None]  # (B, T, 1)
    return (hidden * weight).sum(1) / weight.sum(1)


def layer_stack(model: BertLike) -> tuple[str, nn.ModuleList]:
    """Find the layers of a model and their path; the list is empty if there is no layer list."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return path, module
    return "", nn.ModuleList()


class _PassThrough(nn.Module):
    """Replacement for the embeddings that returns precomputed hidden states."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the first (B, T, width) tensor among the arguments."""
        given = [*args, *kwargs.values()]
        return next(
            a for a in given if isinstance(a, Tensor) and a.is_floating_point() and a.ndim == 3
        )


def _upper_part(model: BertLike, first: int) -> Any:
    """Make a model of layers ``first`` and above that takes hidden states as ``inputs_embeds``.

    It shares all weights with ``model``: only containers are copied, without their contents.
    """
    path, layers = layer_stack(model)
    top = _with_module(model, path, nn.ModuleList(list(layers)[first:]))
    top = _with_module(top, "embeddings", _PassThrough())
    if hasattr(model, "embeddings_project"):  # ELECTRA projects its embeddings before the layers
        top = _with_module(top, "embeddings_project", nn.Identity())
    return top


def _with_module(module: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """Copy ``module`` without its weights, and replace the submodule at ``path`` by ``part``."""
    name, _, rest = path.partition(".")
    copied = module.__new__(type(module))
    copied.__dict__ = {**module.__dict__, "_modules": dict(module._modules)}
    copied._modules[name] = _with_module(module.get_submodule(name), rest, part) if rest else part
    return copied


class _Reached(Exception):
    """Exception that carries the input of a layer."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class _Stop(nn.Module):
    """Replacement for a layer that raises `_Reached` with its input."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """Raise `_Reached`."""
        raise _Reached(hidden_states)


def _input_of_layer(model: BertLike, number: int, ids: Tensor, mask: Tensor) -> Tensor:
    """Run a model up to a layer, and return the input of that layer (B, T, width)."""
    path, layers = layer_stack(model)
    # On a copy: an interrupt could leave a hook on the model itself.
    lower = nn.ModuleList([*list(layers)[:number], _Stop()])
    try:
        _with_module(model, path, lower)(input_ids=ids, attention_mask=mask)
    except _Reached as reached:
        return reached.hidden
    raise RuntimeError("the layer was never reached")
