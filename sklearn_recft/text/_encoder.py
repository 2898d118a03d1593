"""Text encoder: mean-pooled vectors of a BERT, computed once for each distinct text."""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.text._backbone import (
    Backbone,
    BertLike,
    digest,
    fingerprint,
    load_backbone,
    rebuild_backbone,
    scratch_backbone,
    serialize_backbone,
)
from sklearn_recft.text._cache import RaggedRows, VectorCache
from sklearn_recft.text._copies import copies
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
from sklearn_recft.text._pretrained import PretrainedBackbone

SHARED_BYTES = 512 * 2**20  # cache shared by all encoders of the process with weights of a folder
OWN_BYTES = 128 * 2**20  # cache of one encoder with other weights
TEXTS_AT_ONCE = 16384  # number of texts that are tokenized and encoded together
NOTHING_TRAINS = 'Nothing is unfrozen: use encode, or freeze less than "all".'

OTHER_WEIGHTS = (
    "The weights of the text backbone {!r} are not those that this encoder was saved with."
    " Put the old ones back, or fit again."
)

_shared_vectors = VectorCache(SHARED_BYTES)


def load_encoder(
    backbone: str | PretrainedBackbone,
    *,
    texts: Sequence[str] = (),
    seed: int = 0,
    device: str | torch.device = "cpu",
    lora_rank: int = 0,
) -> "TextEncoder":
    """Load a text encoder with frozen weights.

    Parameters
    ----------
    backbone : str or PretrainedBackbone
        A local folder with a BERT-like encoder and its tokenizer, a name on the Hugging Face hub,
        ``"scratch"``, or what `pretrain` returned. A cached hub name needs no network.
        ``"scratch"`` has two layers of width 128 with random weights, and a byte-level tokenizer
        trained on ``texts``.
    texts : sequence of str
        Training texts of the tokenizer of ``"scratch"``.
    seed : int
        Seed of random weights: those of ``"scratch"`` and of adapters.
    device : str or torch.device
        Device of the encoder.
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
        If ``lora_rank`` is positive and peft is not installed.

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
        if isinstance(backbone, PretrainedBackbone):
            made = backbone.load()
        elif backbone == "scratch":
            made = scratch_backbone(texts, seed)
        else:
            made = load_backbone(backbone)
    return TextEncoder(str(backbone), made, device=device, seed=seed, lora_rank=lora_rank)


class TextEncoder(nn.Module):
    """Encode texts as vectors by a BERT; made by `load_encoder`.

    Parameters
    ----------
    backbone : str
        Name of the backbone given to `load_encoder`.
    made : Backbone
        Model and tokenizer.
    device : str or torch.device
        Device of the model.
    seed : int
        Seed of the initial weights of the adapters.
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
        Number of texts that this encoder has run through frozen layers.
    n_encoded_by_all : int
        The same number for all encoders of the process.

    Notes
    -----
    Encoders with the unchanged weights of a folder share their cache within the process. The
    `state` of such an encoder holds a hash of the weights. If all of it is frozen, the weights are
    read from their folder when a text has to be encoded. Encoders with the unchanged weights of a
    `PretrainedBackbone` share their cache too, and their states hold the weights. Encoders with
    other weights (random, adapted or trained) share nothing, and their states hold the weights.
    Weights count as trained after an in-place write by torch, as by optimizers and
    ``load_state_dict``. Writes through ``parameter.data`` are not detected if the encoder never was
    unfrozen.
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
        self._saved: dict[str, Any] = {}  # state, until the weights are read
        self._codes: dict[str, int] = {}  # code of each text given to `lower`
        self._reset_caches()
        self._set_model(made)

    def _reset_caches(self) -> None:
        """Reset all cached vectors and states."""
        self._vectors = VectorCache(OWN_BYTES)
        self._vectors_version: tuple[int, float] | None = None
        self._lower: RaggedRows | None = None

    def _set_model(self, made: Backbone) -> None:
        """Set the model and its tokenizer."""
        self.width = int(made.model.config.hidden_size)
        self.n_layers = int(made.model.config.num_hidden_layers)
        self.model: BertLike | None = made.model.to(self._device).requires_grad_(False)
        self._weights = list(made.model.parameters())  # to walk through the model is slow
        self._tokenizer = made.tokenizer
        self._folder = made.folder
        self._fingerprint, self._serialized = made.fingerprint, made.serialized
        self._owner = sys.intern(repr(made.fingerprint))
        self._known_version: tuple[int, float] = self._version_now()

    def _loaded_model(self) -> Any:
        """Return the model; read it from its folder if the state held only the hash of it."""
        with one_at_a_time:
            if self.model is None:
                self._set_model(_made_from(self._saved))
        return self.model

    @property
    def tokenizer(self) -> Any:
        """Tokenizer of the model."""
        self._loaded_model()
        return self._tokenizer

    def _version_now(self) -> tuple[int, float]:
        """Return a version of the weights that changes when they are written to.

        It is torch's count of in-place writes. Once weights may be trained, it includes sums of
        them, because fused optimizers do not increase the count.
        """
        size = 0.0
        if self._was_trained:
            weights = [p.detach() for p in self._weights]
            size = sum(float(w.double().sum() + w.double().square().sum()) for w in weights)
        return sum(p._version for p in self._weights), size

    @property
    def is_shared(self) -> bool:
        """Whether the weights are the unchanged ones of a folder or a `PretrainedBackbone`."""
        if self.model is None:
            return True
        return self._fingerprint is not None and self._version_now() == self._known_version

    def _folder_is_unchanged(self) -> bool:
        """Whether the folder still holds the weights that were read from it."""
        try:
            return self._folder is not None and fingerprint(self._folder) == self._fingerprint
        except OSError:
            return False

    # Vectors by all layers

    def encode(
        self, texts: Sequence[str], *, n_threads: int = 1, separately: bool = False
    ) -> np.ndarray:
        """Encode texts in evaluation mode: the mean of the last hidden states of each text.

        Parameters
        ----------
        texts : sequence of str of length n
            Texts are truncated to 256 tokens.
        n_threads : int
            Threads that torch may use.
        separately : bool
            Run one text per batch. Vectors then do not depend on the other texts, bit by bit, but
            encoding takes about twice as long.

        Returns
        -------
        ndarray of shape (n, width), float32
        """
        distinct = _distinct(texts)
        self._loaded_model()
        known, owner = self._cache()
        found = known.get(owner, distinct)
        if len(found) < len(distinct):
            with one_at_a_time:
                # Another thread may have encoded some of them while this one waited.
                found.update(known.get(owner, [text for text in distinct if text not in found]))
                missing = [text for text in distinct if text not in found]
                size = 1 if separately else TEXTS_AT_ONCE
                for start in range(0, len(missing), size):
                    part = missing[start : start + size]
                    vectors = self._encode_missing(part, n_threads)
                    known.put(owner, part, vectors)
                    found.update(zip(part, vectors, strict=True))
        if not distinct:
            return np.empty((0, self.width), np.float32)
        return np.stack([found[text] for text in texts])

    def _cache(self) -> tuple[VectorCache, str]:
        """Return the cache for the current weights, and the owner key in it."""
        if self.is_shared:
            return _shared_vectors, self._owner
        version = self._version_now()
        if version != self._vectors_version:
            self._vectors.clear()
            self._vectors_version = version
        return self._vectors, ""

    def _encode_missing(self, texts: list[str], n_threads: int) -> np.ndarray:
        """Run texts through all layers; return (len(texts), width)."""
        model = self._loaded_model()
        vectors = run_all(model, tokenize(model, self._tokenizer, texts), n_threads)
        self._count(len(texts))
        return vectors

    def _count(self, n: int) -> None:
        """Count encoded texts."""
        self.n_encoded += n
        TextEncoder.n_encoded_by_all += n

    # Training of the upper layers

    def freeze(self, keep: int | str) -> "TextEncoder":
        """Freeze all layers, the lower layers or none.

        Parameters
        ----------
        keep : {"all", "none"} or int
            "all" freezes everything, "none" nothing. A number freezes the embeddings and that many
            lower layers. With ``lora_rank``, adapters of the unfrozen layers are trained instead
            of the weights, and embeddings stay frozen.

        Returns
        -------
        self : TextEncoder

        Raises
        ------
        ValueError
            If ``keep`` is none of these, or if the layers of this model cannot be split.
        """
        first = self._first(keep)
        model = self._loaded_model()
        if first is not None and first < self.n_layers:
            if not runs_in_parts(model, self._tokenizer, first):
                raise ValueError(
                    f"The layers of {self.backbone!r} ({model.config.model_type}) cannot be run"
                    ' separately: freeze "all" or "none" of it.'
                )
            if self._lora_rank:
                adapt(model, first, self._lora_rank, self._seed)
                self._weights = list(model.parameters())
                self._fingerprint = self._folder = self._serialized = None
        model.requires_grad_(False)
        trained = model if first is None else nn.ModuleList(layer_stack(model)[1][first:])
        for name, parameter in trained.named_parameters():
            # The pooler is not used: its output is not part of the vector.
            trains = "lora_" in name if self._lora_rank else "pooler" not in name
            parameter.requires_grad_(trains)
        self.keep = keep if first is None else "all" if first == self.n_layers else first
        if self.keep != "all" and not self._was_trained:
            shared, self._was_trained = self.is_shared, True
            self._known_version = self._version_now() if shared else (-1, 0.0)
        self._lower = None
        return self

    def _first(self, keep: int | str) -> int | None:
        """Return the first trained layer; None if the embeddings are trained too."""
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
        """Run each distinct text through the frozen layers once, and cache the states.

        The cache holds ``width`` half-precision numbers per token, or token ids if nothing is
        frozen. Saved states hold the texts only, which are run again when needed. Half precision
        changes the vectors of `upper` by about 4e-4 of their scale.

        Parameters
        ----------
        texts : sequence of str of length n
        n_threads : int
            Threads that torch may use.

        Returns
        -------
        ndarray of shape (n,), int64
            Codes of the texts for `upper`. Equal texts have equal codes, and new texts get the next
            codes.
        """
        if self._first(self.keep) == self.n_layers:
            raise ValueError(NOTHING_TRAINS)
        with one_at_a_time:
            for text in _distinct(texts):
                self._codes.setdefault(text, len(self._codes))
            self._fill_lower(n_threads)
            return np.array([self._codes[text] for text in texts], np.int64)

    def mark(self, *rows: Any) -> int:
        """Return what `restore` needs to undo later calls of `lower`."""
        return len(self._codes)

    def restore(self, mark: int) -> None:
        """Remove the texts that `lower` added since ``mark``."""
        if mark < len(self._codes):
            self._codes = dict(list(self._codes.items())[:mark])
            self._lower = None

    def state(self) -> dict[str, Any]:
        """Return the backbone name, the texts with codes, and the weights.

        For weights of a folder, the state holds their hash instead.
        """
        state: dict[str, Any] = {
            "backbone": self.backbone,
            "width": self.width,
            "n_layers": self.n_layers,
            "keep": self.keep,
            "texts": list(self._codes),
            "lora_rank": self._lora_rank,
            "seed": self._seed,
            "digest": None,
            "own": None,
        }
        if self.model is None and not copies.get():
            return {**state, "digest": self._saved["digest"]}
        model = self._loaded_model()
        if self.is_shared and self._folder_is_unchanged() and not copies.get():
            return {**state, "digest": digest(self._fingerprint)}
        if self.is_shared and self._serialized is not None:
            return {**state, "own": self._serialized}  # no copy: a pickle holds it once
        weights = {name: t.detach().cpu().numpy().copy() for name, t in model.state_dict().items()}
        own = {"weights": weights, **serialize_backbone(model, self._tokenizer)}
        return {**state, "own": own}

    def move_to(self, device: str | torch.device) -> None:
        """Move the encoder to another device."""
        self._device = str(device)
        if self.model is not None:
            self.model.to(device)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TextEncoder":
        """Make an encoder from the result of `state`."""
        encoder = cls.__new__(cls)
        nn.Module.__init__(encoder)
        encoder.n_encoded, encoder._device = 0, "cpu"
        encoder.load_state(state)
        return encoder

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned.

        Raises
        ------
        ValueError
            If the weights of the folder have changed. If all layers are frozen, the folder is
            read, and this is raised, when a text has to be encoded.
        """
        own = state["own"]
        made = None if own is None and state["keep"] == "all" else _made_from(state)
        self._seed = state["seed"]
        self._saved = {name: state[name] for name in ("backbone", "own", "digest")}
        self.backbone, self._lora_rank = state["backbone"], state["lora_rank"]
        self._was_trained, self._codes = False, {}
        self._reset_caches()
        if made is None:
            self.model, self.keep = None, "all"
            self.width, self.n_layers = state["width"], state["n_layers"]
        else:
            self._set_model(made)
            self.freeze(state["keep"])
        if own is not None:
            self._saved = {}
            weights = {n: torch.from_numpy(w.copy()) for n, w in own["weights"].items()}
            self._loaded_model().load_state_dict(weights)
        self._codes = {text: code for code, text in enumerate(state["texts"])}

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: the encoder has no state per user."""

    @property
    def n_texts(self) -> int:
        """Number of texts that have codes."""
        return len(self._codes)

    def _fill_lower(self, n_threads: int) -> RaggedRows:
        """Compute the missing states of texts with codes."""
        first = self._first(self.keep)
        if self._lower is None:
            self._lower = (
                RaggedRows((), np.int32) if first is None else RaggedRows((self.width,), np.float16)
            )
        if len(self._lower) == len(self._codes):
            return self._lower
        texts = list(self._codes)
        for start in range(len(self._lower), len(texts), TEXTS_AT_ONCE):
            model = self._loaded_model()
            tokens = tokenize(model, self._tokenizer, texts[start : start + TEXTS_AT_ONCE])
            if first is None:
                self._lower.append(tokens)
            else:
                self._lower.append(run_lower(model, tokens, first, n_threads))
                self._count(len(tokens))
        return self._lower

    def upper(self, codes: Tensor) -> Tensor:
        """Return the vectors of texts by code, with gradients for unfrozen weights.

        Parameters
        ----------
        codes : Tensor of any shape, int64
            From `lower`. Equal codes are computed once, so they share their dropout in training
            mode.

        Returns
        -------
        Tensor of shape ``(*codes.shape, width)``
        """
        model, first = self._loaded_model(), self._first(self.keep)
        if first == self.n_layers:
            raise ValueError(NOTHING_TRAINS)
        with one_at_a_time:
            rows = self._fill_lower(torch.get_num_threads())
        distinct, place = torch.unique(codes, return_inverse=True)
        vectors = run_upper(model, rows, distinct.cpu().numpy(), first)  # (n_distinct, width)
        return vectors[place.to(vectors.device)]


def _made_from(state: dict[str, Any]) -> Backbone:
    """Load or rebuild the model and the tokenizer of an encoder's state."""
    own = state["own"]
    with one_at_a_time:
        made = load_backbone(state["backbone"]) if own is None else rebuild_backbone(own)
    if own is None and digest(made.fingerprint or ()) != state["digest"]:
        raise ValueError(OTHER_WEIGHTS.format(state["backbone"]))
    return made


def _distinct(texts: Sequence[str]) -> list[str]:
    """Return the distinct texts in order; raise TypeError if one is not a string."""
    if isinstance(texts, str):
        raise TypeError("Give a sequence of texts, not one text.")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Texts must be strings; number {place} is {type(text).__name__}.")
    return list(dict.fromkeys(texts))
