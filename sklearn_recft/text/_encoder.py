"""The text encoder: a BERT whose mean-pooled vectors are computed once for each distinct text."""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.text._backbone import (
    Backbone,
    BertLike,
    describe_backbone,
    digest,
    fingerprint,
    load_backbone,
    rebuild_backbone,
    scratch_backbone,
)
from sklearn_recft.text._cache import RaggedRows, VectorCache
from sklearn_recft.text._lora import adapt, import_peft
from sklearn_recft.text._passes import (
    layer_stack,
    one_at_a_time,
    run_all,
    run_lower,
    run_upper,
    runs_in_parts,
    tokenize,
)

SHARED_BYTES = 512 * 2**20  # of vectors kept for every encoder of the process with known weights
OWN_BYTES = 128 * 2**20  # of vectors kept by one encoder with weights of its own
TEXTS_AT_ONCE = 16384  # tokenised before the first of them is encoded
NOTHING_TRAINS = 'Nothing is unfrozen: use encode, or freeze less than "all".'

OTHER_WEIGHTS = (
    "The weights of the text backbone {!r} are not those that this encoder was saved with."
    " Put the old ones back, or fit again."
)

_shared_vectors = VectorCache(SHARED_BYTES)


def load_encoder(
    backbone: str,
    *,
    texts: Sequence[str] = (),
    seed: int = 0,
    device: str | torch.device = "cpu",
    lora_rank: int = 0,
) -> "TextEncoder":
    """Load a text encoder, all of it frozen.

    Parameters
    ----------
    backbone : str
        A BERT-like encoder with its tokenizer: a local folder, a name on the Hugging Face hub
        (from the cache where it is there, without a look at the network), or ``"scratch"``: two
        layers of width 128 with random weights and a byte-level tokenizer trained on ``texts``.
    texts : sequence of str
        For ``"scratch"`` alone: texts like those to be encoded.
    seed : int
        Decides the random weights: all of ``"scratch"``, and the adapters.
    device : str or torch.device
        Where the encoder runs.
    lora_rank : int
        If positive, `TextEncoder.freeze` trains adapters of this rank in place of weights.

    Returns
    -------
    TextEncoder

    Raises
    ------
    ValueError
        If there is no such backbone, or it cannot be read.
    ImportError
        If ``lora_rank`` asks for peft and it is not installed.

    Examples
    --------
    >>> encoder = load_encoder("scratch", texts=["Heat", "Toy Story", "Toy Story 2"])
    >>> encoder.encode(["Toy Story", "Casino"]).shape
    (2, 128)
    >>> codes = encoder.freeze(1).lower(["Toy Story", "Casino", "Toy Story"])
    >>> codes
    array([0, 1, 0])
    >>> encoder.upper(torch.from_numpy(codes)).shape
    torch.Size([3, 128])
    """
    if lora_rank:
        import_peft()
    with one_at_a_time:
        made = scratch_backbone(texts, seed) if backbone == "scratch" else load_backbone(backbone)
    return TextEncoder(backbone, made, device=device, seed=seed, lora_rank=lora_rank)


class TextEncoder(nn.Module):
    """Texts to vectors through a BERT; made by `load_encoder`.

    Parameters
    ----------
    backbone : str
        The name it was asked for by.
    made : Backbone
        Model and tokenizer.
    device : str or torch.device
        Where the model runs.
    seed : int
        Decides the adapters' first weights.
    lora_rank : int
        Rank of the adapters; 0 for none.

    Attributes
    ----------
    width : int
        Length of a text's vector.
    n_layers : int
        Layers of the model.
    keep : {"all", "none"} or int
        What is frozen, see `freeze`.
    n_encoded : int
        Texts that this encoder has pushed through frozen layers, by `encode` and `lower`.
    n_encoded_by_all : int
        The same, of every encoder of this process.

    Notes
    -----
    While the weights are those of a folder, an encoder shares its vectors with every other encoder
    of that folder in the process and, if all of it is frozen, is pickled as the folder's name. One
    with weights of its own (random, adapted or trained) shares nothing and is pickled with them.
    Weights count as trained once torch has written to them in place, as optimizers and
    ``load_state_dict`` do; of one that never was unfrozen, writes through ``parameter.data`` pass
    unseen.
    """

    n_encoded_by_all: ClassVar[int] = 0

    def __init__(
        self,
        backbone: str,
        made: Backbone,
        *,
        device: str | torch.device = "cpu",
        seed: int = 0,
        lora_rank: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.n_encoded = 0
        self.keep: int | str = "all"
        self._device = str(device)
        self._seed = seed
        self._lora_rank = lora_rank
        self._was_trained = False
        self._codes: dict[str, int] = {}  # texts given to `lower`, by order of arrival
        self._forget()
        self._take(made)

    def _forget(self) -> None:
        """Begin without anything computed."""
        self._vectors = VectorCache(OWN_BYTES)
        self._vectors_version: tuple[int, float] | None = None
        self._lower: RaggedRows | None = None

    def _take(self, made: Backbone) -> None:
        """Hold a model and its tokenizer."""
        self.width = int(made.model.config.hidden_size)
        self.n_layers = int(made.model.config.num_hidden_layers)
        self.model: BertLike = made.model.to(self._device).requires_grad_(False)
        self._tokenizer = made.tokenizer
        self._folder = made.folder
        self._fingerprint = made.fingerprint
        self._owner = sys.intern(repr(made.fingerprint))
        self._known_version: tuple[int, float] = self._version_now()

    def _body(self) -> Any:
        """Give the model, read again from its folder if this encoder was pickled by name."""
        with one_at_a_time:
            if self.model is None:
                made = load_backbone(self._home())
                if digest(made.fingerprint or ()) != self._digest:
                    raise ValueError(OTHER_WEIGHTS.format(self.backbone))
                self._take(made)
        return self.model

    def _home(self) -> str:
        """Name the place to read from again: elsewhere, the name asked for is all there is."""
        there = self._folder is not None and Path(self._folder).is_dir()
        return str(self._folder) if there else self.backbone

    def _version_now(self) -> tuple[int, float]:
        """Tell the weights of now from those of before.

        How often torch has written to them; and, once they may be trained, sums of them, since
        fused optimizers write without counting.
        """
        weights = [p.detach() for p in self.model.parameters()]
        size = 0.0
        if self._was_trained:
            size = sum(float(w.double().sum() + w.double().square().sum()) for w in weights)
        return sum(w._version for w in weights), size

    @property
    def is_shared(self) -> bool:
        """Whether the weights are still those of the folder they came from."""
        if self._fingerprint is None:
            return False
        return self.model is None or self._version_now() == self._known_version

    # Vectors of whole texts

    def encode(
        self, texts: Sequence[str], *, n_threads: int = 1, apart: bool = False
    ) -> np.ndarray:
        """Give each text's vector: the mean of its last hidden states, in evaluation mode.

        Parameters
        ----------
        texts : sequence of str of length n
            What is beyond the first 256 tokens of a text is not read.
        n_threads : int
            Threads that torch may use.
        apart : bool
            Whether each text is run by itself, so that its vector is the same to the last bit
            whatever others come with it; about half as fast.

        Returns
        -------
        ndarray of shape (n, width), float32
        """
        distinct = _distinct(texts)
        known, owner = self._cache()
        found = known.get(owner, distinct)
        if len(found) < len(distinct):
            with one_at_a_time:
                # Another thread may have encoded some of them while this one waited.
                found.update(known.get(owner, [text for text in distinct if text not in found]))
                missing = [text for text in distinct if text not in found]
                size = 1 if apart else TEXTS_AT_ONCE
                for start in range(0, len(missing), size):
                    part = missing[start : start + size]
                    vectors = self._push(part, n_threads)
                    known.put(owner, part, vectors)
                    found.update(zip(part, vectors, strict=True))
        if not distinct:
            return np.empty((0, self.width), np.float32)
        return np.stack([found[text] for text in texts])

    def _cache(self) -> tuple[VectorCache, str]:
        """Say where vectors made with the present weights are kept, and under whose name."""
        if self.is_shared:
            return _shared_vectors, self._owner
        version = self._version_now()
        if version != self._vectors_version:
            self._vectors.clear()
            self._vectors_version = version
        return self._vectors, ""

    def _push(self, texts: list[str], n_threads: int) -> np.ndarray:
        """Run texts through all layers: (len(texts), width)."""
        model = self._body()
        vectors = run_all(model, tokenize(model, self._tokenizer, texts), n_threads)
        self._count(len(texts))
        return vectors

    def _count(self, n: int) -> None:
        """Count texts that went through the layers."""
        self.n_encoded += n
        TextEncoder.n_encoded_by_all += n

    # Training of the upper layers

    def freeze(self, keep: int | str) -> "TextEncoder":
        """Decide what trains.

        Parameters
        ----------
        keep : {"all", "none"} or int
            "all": nothing trains. "none": everything does. A number: the embeddings and as many
            lower layers stay frozen. With ``lora_rank``, adapters of the unfrozen layers train
            in place of the weights; the embeddings never do.

        Returns
        -------
        self : TextEncoder

        Raises
        ------
        ValueError
            If ``keep`` is none of these, or if the layers of this model cannot be run apart.
        """
        first = self._first(keep)
        model = self._body()
        if first is not None and first < self.n_layers:
            if not runs_in_parts(model, self._tokenizer, first):
                raise ValueError(
                    f"The layers of {self.backbone!r} ({model.config.model_type}) cannot be run"
                    ' apart: freeze "all" or "none" of it.'
                )
            if self._lora_rank:
                adapt(model, first, self._lora_rank, self._seed)
                self._fingerprint = self._folder = None
        model.requires_grad_(False)
        trained = model if first is None else nn.ModuleList(layer_stack(model)[1][first:])
        for name, parameter in trained.named_parameters():
            # The pooler reads the first token, of which no use is made here.
            trains = "lora_" in name if self._lora_rank else "pooler" not in name
            parameter.requires_grad_(trains)
        self.keep = keep if first is None else "all" if first == self.n_layers else first
        if self.keep != "all" and not self._was_trained:
            shared, self._was_trained = self.is_shared, True
            self._known_version = self._version_now() if shared else (-1, 0.0)
        self._lower = None
        return self

    def _first(self, keep: int | str) -> int | None:
        """Name the first layer that trains; None if the embeddings train as well."""
        if keep == "all":
            return self.n_layers
        if keep == "none":
            return 0 if self._lora_rank else None
        if isinstance(keep, bool | str) or not 0 <= keep <= self.n_layers:
            raise ValueError(
                f"freeze={keep!r}: give 'all', 'none' or a number of layers"
                f" from 0 to {self.n_layers}, the layers of {self.backbone!r}."
            )
        return int(keep)

    def lower(self, texts: Sequence[str], *, n_threads: int = 1) -> np.ndarray:
        """Run texts through the frozen layers, once each, and keep what the next layer would read.

        Kept are ``width`` half-precision numbers a token (token ids if nothing is frozen) for as
        long as this encoder lives; pickles hold the texts alone, which are run again when needed.
        Half precision moves the vectors of `upper` by some 4e-4 of their scale.

        Parameters
        ----------
        texts : sequence of str of length n
        n_threads : int
            Threads that torch may use.

        Returns
        -------
        ndarray of shape (n,), int64
            Codes of the texts for `upper`: equal texts have equal codes, new texts the next ones.
        """
        if self._first(self.keep) == self.n_layers:
            raise ValueError(NOTHING_TRAINS)
        with one_at_a_time:
            for text in _distinct(texts):
                self._codes.setdefault(text, len(self._codes))
            self._fill_lower(n_threads)
            return np.array([self._codes[text] for text in texts], np.int64)

    def mark(self, *rows: Any) -> int:
        """Return what `restore` needs to undo calls of `lower` from here on."""
        return len(self._codes)

    def restore(self, mark: int) -> None:
        """Forget the texts that `lower` was given since ``mark``."""
        if mark < len(self._codes):
            self._codes = dict(list(self._codes.items())[:mark])
            self._lower = None

    def state(self) -> dict[str, Any]:
        """Return the name of the backbone and the texts with codes; weights if they are its own.

        Weights of a folder are told by their hash.
        """
        model = self._body()
        state: dict[str, Any] = {
            "backbone": self.backbone,
            "keep": self.keep,
            "texts": list(self._codes),
            "lora_rank": self._lora_rank,
            "seed": self._seed,
            "digest": None,
            "own": None,
        }
        if self.is_shared and self._fingerprint is not None:
            return {**state, "digest": digest(self._fingerprint)}
        weights = {name: t.detach().cpu().numpy().copy() for name, t in model.state_dict().items()}
        own = {"weights": weights, **describe_backbone(model, self._tokenizer)}
        return {**state, "own": own}

    def move_to(self, device: str | torch.device) -> None:
        """Run on another device from here on."""
        self._device = str(device)
        if self.model is not None:
            self.model.to(device)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TextEncoder":
        """Make the encoder that `state` described."""
        encoder = cls(state["backbone"], _made_from(state), seed=state["seed"])
        encoder.load_state(state)
        return encoder

    def load_state(self, state: dict[str, Any]) -> None:
        """Become what `state` described.

        Raises
        ------
        ValueError
            If the folder now holds other weights.
        """
        own, made = state["own"], _made_from(state)
        self._seed = state["seed"]
        self.backbone, self._lora_rank = state["backbone"], state["lora_rank"]
        self._was_trained, self._codes = False, {}
        self._forget()
        self._take(made)
        self.freeze(state["keep"])
        if own is not None:
            model = self._body()
            model.load_state_dict({n: torch.from_numpy(w) for n, w in own["weights"].items()})
        self._codes = {text: code for code, text in enumerate(state["texts"])}

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: texts are of items."""

    @property
    def n_texts(self) -> int:
        """Number of texts that have codes."""
        return len(self._codes)

    def _fill_lower(self, n_threads: int) -> RaggedRows:
        """Compute what is not yet known of the texts that have codes."""
        first = self._first(self.keep)
        if self._lower is None:
            self._lower = (
                RaggedRows((), np.int32) if first is None else RaggedRows((self.width,), np.float16)
            )
        if len(self._lower) == len(self._codes):
            return self._lower
        texts = list(self._codes)
        for start in range(len(self._lower), len(texts), TEXTS_AT_ONCE):
            model = self._body()
            tokens = tokenize(model, self._tokenizer, texts[start : start + TEXTS_AT_ONCE])
            if first is None:
                self._lower.append(tokens)
            else:
                self._lower.append(run_lower(model, tokens, first, n_threads))
                self._count(len(tokens))
        return self._lower

    def upper(self, codes: Tensor) -> Tensor:
        """Give the vectors of texts by code, with gradients to what is unfrozen.

        Parameters
        ----------
        codes : Tensor of any shape, int64
            From `lower`. Equal codes are computed once, so that dropout, in training mode, is the
            same for them.

        Returns
        -------
        Tensor of shape (*codes.shape, width)
        """
        model, first = self._body(), self._first(self.keep)
        if first == self.n_layers:
            raise ValueError(NOTHING_TRAINS)
        with one_at_a_time:
            rows = self._fill_lower(torch.get_num_threads())
        distinct, place = torch.unique(codes, return_inverse=True)
        vectors = run_upper(model, rows, distinct.cpu().numpy(), first)  # (n_distinct, width)
        return vectors[place.to(vectors.device)]

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        # What `lower` gave stays, so that copies learn on alike to the bit.
        state = {**self.__dict__, "_vectors": None, "_vectors_version": None, "n_encoded": 0}
        if self.model is None:
            return state
        if self.keep == "all" and self.is_shared and self._folder is not None:
            now = fingerprint(self._folder)
            if now == self._fingerprint:
                state["_modules"] = {**state["_modules"], "model": None}
                state["_digest"] = digest(now)
                state["_tokenizer"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._vectors = VectorCache(OWN_BYTES)
        if self.model is not None:
            # Counts of writes begin anew, so that nothing tells these weights from the folder's.
            self._fingerprint = self._folder = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextEncoder":
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other


def _made_from(state: dict[str, Any]) -> Backbone:
    """Read or rebuild the model and the tokenizer of an encoder's state."""
    own = state["own"]
    with one_at_a_time:
        made = load_backbone(state["backbone"]) if own is None else rebuild_backbone(own)
    if own is None and digest(made.fingerprint or ()) != state["digest"]:
        raise ValueError(OTHER_WEIGHTS.format(state["backbone"]))
    return made


def _distinct(texts: Sequence[str]) -> list[str]:
    """Give each text once, by order of arrival; raise if something is no text."""
    if isinstance(texts, str):
        raise TypeError("Give a sequence of texts, not one text.")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Texts must be strings; number {place} is {type(text).__name__}.")
    return list(dict.fromkeys(texts))
