"""A frozen text encoder that runs in ONNX Runtime: a graph and a tokenizer, no torch weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sklearn_recft.text._backbone import one_at_a_time, rebuild_tokenizer, serialize_backbone
from sklearn_recft.text._cache import RaggedRows, VectorCache, batches_by_length
from sklearn_recft.text._encoder import SHARED_BYTES, TextEncoder
from sklearn_recft.text._passes import max_tokens, token_ids

INPUTS, OUTPUT = ("input_ids", "attention_mask"), "vectors"
# Number of tokens per run, with padding: larger batches leave the cache of the processor.
BATCH_TOKENS = 256
# Key of an initializer that is stored in another file.
_OUTSIDE = b"\x0a\x08location"

_shared_vectors = VectorCache(SHARED_BYTES)


class OnnxEncoder(TextEncoder):
    """Encode texts by an ONNX graph; all of it is frozen.

    `sklearn_recft.compression.with_onnx_encoder` makes it. Its `state` holds the graph, so neither
    torch's weights nor an export are needed after loading, but ``onnxruntime`` is.

    Parameters
    ----------
    graph : bytes
        ONNX graph with the inputs ``input_ids`` and ``attention_mask`` (n, length), int64, and the
        output ``vectors`` (n, width), float32.
    precision : {"float32", "int8"}
        Type of the weights in the graph.
    source : TextEncoder
        The encoder that the graph was exported from.
    """

    _sessions: tuple[int, Any] | None

    def __init__(self, graph: bytes, precision: str, source: TextEncoder) -> None:
        torch.nn.Module.__init__(self)
        self.n_encoded = 0
        self.load_state(
            {
                "backbone": source.backbone,
                "width": source.width,
                "n_layers": source.n_layers,
                "texts": [],
                "onnx": np.frombuffer(graph, np.uint8),
                "precision": precision,
                **reading_of(source),
            }
        )

    @property
    def graph(self) -> bytes:
        """The ONNX graph."""
        found: bytes = self._graph.tobytes()
        return found

    @property
    def reading(self) -> dict[str, Any]:
        """``tokenizer``, ``special`` (JSON) and ``max_tokens``: how texts are read."""
        return dict(self._reading)

    # ------------------------------------------------------------------ running

    def _loaded_model(self) -> Any:
        return None

    def _cache(self) -> tuple[VectorCache, str]:
        return _shared_vectors, self._owner

    def _session(self, n_threads: int) -> Any:
        """Return the session for a number of threads; the last one is kept."""
        if self._sessions is None or self._sessions[0] != n_threads:
            self._sessions = n_threads, _make_session(self._graph, n_threads)
        return self._sessions[1]

    def _encode_missing(self, texts: list[str], n_threads: int) -> np.ndarray:
        """Run texts through the graph; return (len(texts), width)."""
        with one_at_a_time:
            session = self._session(n_threads)
            rows = RaggedRows((), np.int32)
            rows.append(token_ids(self._tokenizer, texts, self._reading["max_tokens"]))
            vectors = np.empty((len(texts), self.width), np.float32)
            for batch in batches_by_length(rows.lengths(np.arange(len(texts))), BATCH_TOKENS):
                ids, mask = (t.numpy().astype(np.int64) for t in rows.collate(batch))  # (B, T)
                given = dict(zip(INPUTS, (ids, mask), strict=True))
                vectors[batch] = session.run([OUTPUT], given)[0]  # (B, width)
        self._count(len(texts))
        return vectors

    def move_to(self, device: str | torch.device) -> None:
        """Do nothing: the graph runs on the CPU."""

    def freeze(self, keep: int | str) -> TextEncoder:
        """Raise, unless all is frozen: an ONNX graph is not trained."""
        if keep != "all":
            raise ValueError(
                f"freeze={keep!r}: an encoder in ONNX Runtime is not trained. Fit again to train "
                "the encoder in torch."
            )
        return self

    # ------------------------------------------------------------------ as a part

    def state(self) -> dict[str, Any]:
        """Return the graph, the tokenizer and the sizes."""
        return {
            "backbone": self.backbone,
            "width": self.width,
            "n_layers": self.n_layers,
            "keep": "all",
            "texts": list(self._codes),
            "lora_rank": 0,
            "seed": 0,
            "digest": None,
            "own": None,
            "onnx": self._graph,
            "precision": self.precision,
            **self._reading,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned.

        Raises
        ------
        ValueError
            If the graph cannot be read, or is not that of an encoder of this width.
        ImportError
            If onnxruntime is not installed.
        """
        graph = np.asarray(state["onnx"])
        if graph.dtype != np.uint8 or graph.ndim != 1:
            raise ValueError(f"onnx: a graph is an array of bytes, not of {graph.dtype}.")
        self.backbone, self.precision = str(state["backbone"]), str(state["precision"])
        self.width, self.n_layers = int(state["width"]), int(state["n_layers"])
        self.model, self.keep = None, "all"
        self._codes = {text: code for code, text in enumerate(state["texts"])}
        self._was_trained, self._lora_rank, self._seed, self._saved = False, 0, 0, {}
        self._reset_caches()
        self._graph = graph
        self._owner = hashlib.blake2b(graph.tobytes(), digest_size=16).hexdigest()
        names = ("tokenizer", "special", "max_tokens")
        self._reading = {name: state[name] for name in names}
        if not 1 <= int(self._reading["max_tokens"]) <= 1 << 20:
            raise ValueError(f"onnx: max_tokens is {self._reading['max_tokens']}.")
        self._tokenizer = rebuild_tokenizer(self._reading)
        self._sessions = None
        _check_session(self._session(1), self.width)


def encoder_from_state(state: dict[str, Any]) -> TextEncoder:
    """Make an encoder, in torch or in ONNX Runtime, from the result of its method `state`."""
    kind = OnnxEncoder if "onnx" in state else TextEncoder
    return kind.from_state(state)


def reading_of(encoder: TextEncoder) -> dict[str, Any]:
    """Return ``tokenizer``, ``special`` (JSON) and ``max_tokens``: how an encoder reads texts."""
    if isinstance(encoder, OnnxEncoder):
        return encoder.reading
    tokenizer = encoder.tokenizer  # loads the model, too
    found = serialize_backbone(encoder.model, tokenizer)
    names = ("tokenizer", "special")
    return {**{n: found[n] for n in names}, "max_tokens": max_tokens(encoder.model, tokenizer)}


def import_onnxruntime() -> Any:
    """Import onnxruntime, or raise an error that names the extra."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            'An encoder in ONNX Runtime needs onnxruntime: pip install "sklearn-recft[onnx]"'
        ) from error
    return onnxruntime


def _make_session(graph: np.ndarray, n_threads: int) -> Any:
    """Make a session on the CPU.

    Raises
    ------
    ValueError
        If the graph cannot be read, or names other files.
    """
    runtime = import_onnxruntime()
    data = graph.tobytes()
    if _OUTSIDE in data:
        raise ValueError("onnx: the graph names other files; its weights must be inside.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    where = ["CPUExecutionProvider"]
    try:  # without a second attempt, which would print
        return runtime.InferenceSession(data, options, providers=where, enable_fallback=0)
    except Exception as error:  # the runtime has many kinds, which share no base of their own
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"onnx: ONNX Runtime cannot read the graph ({reason[:200]}).") from error


def _check_session(session: Any, width: int) -> None:
    """Raise an error unless a graph has the inputs and the output of an encoder."""
    inputs = tuple(one.name for one in session.get_inputs())
    outputs = {one.name: one.shape for one in session.get_outputs()}
    if inputs != INPUTS or outputs.get(OUTPUT, [None])[-1] != width:
        raise ValueError(
            f"onnx: the graph has inputs {inputs} and outputs {outputs}; an encoder has {INPUTS}, "
            f"and {OUTPUT!r} of width {width}."
        )
