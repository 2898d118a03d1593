"""Low-rank adapters (LoRA) for the linear layers of a BERT, by peft."""

from typing import Any

from torch import nn

from sklearn_recft.text._backbone import BertLike, quiet, seeded
from sklearn_recft.text._passes import layer_stack


def import_peft() -> Any:
    """Import peft, or raise an error that names the extra."""
    try:
        with quiet():
            import peft
    except ImportError as error:
        raise ImportError(
            "lora_rank needs the package peft: pip install sklearn_recft[lora]"
        ) from error
    return peft


def adapt(model: BertLike, first: int, rank: int, seed: int) -> None:
    """Add adapters to the linear layers from layer ``first`` on; outputs do not change yet."""
    peft = import_peft()
    path, layers = layer_stack(model)
    names = [
        f"{path}.{number}.{name}"
        for number in range(first, len(layers))
        for name, part in layers[number].named_modules()
        if type(part) is nn.Linear and "base_layer" not in name and "lora_" not in name
    ]
    if names:
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names)
        with quiet(), seeded(seed):
            peft.inject_adapter_in_model(config, model, adapter_name="adapter")
