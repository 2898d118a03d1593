"""Text encoders with two of the six layers of all-MiniLM-L6-v2, as they are and trained."""

import copy
import itertools
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from transformers import AutoModel, AutoTokenizer

from benchmarks.common.report import row
from benchmarks.decay.log import Log, make_model
from sklearn_recft.text import load_encoder

HIDDEN, N_NEIGHBOURS, N_TIMED, N_PAIRS = 0.3, 10, 192, 3
LAYERS = ((0, 1), (0, 5))
EPOCHS = (0, 3)
BATCH, RATE = 32, 3e-4
_turns = itertools.count(1000)


def cut_layers(folder: str, kept: tuple[int, ...], out: Path) -> Path:
    """Copy the folder of a BERT with some of its layers only."""
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    config["num_hidden_layers"] = len(kept)
    (out / "config.json").write_text(json.dumps(config))
    place = {f"layer.{old}.": f"layer.{new}." for new, old in enumerate(kept)}
    weights = {}
    for name, value in load_file(out / "model.safetensors").items():
        if ".layer." not in name:
            weights[name] = value
        for old, new in place.items():
            if f".{old}" in name:
                weights[name.replace(old, new)] = value
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def match(folder: Path, texts: list[str], vectors: np.ndarray, n_epochs: int, seed: int) -> None:
    """Train the encoder of a folder on mean-pooled vectors of a larger one: squared distance."""
    torch.manual_seed(seed)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    n_steps = n_epochs * -(-len(texts) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, n_steps)
    rng = np.random.default_rng(seed)
    for _ in range(n_epochs):
        for rows in np.array_split(rng.permutation(len(texts)), -(-len(texts) // BATCH)):
            some = [texts[i] for i in rows]
            inputs = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
            mask = inputs["attention_mask"][:, :, None]  # (B, L, 1)
            states = model(**inputs).last_hidden_state  # (B, L, d)
            found = (states * mask).sum(1) / mask.sum(1)  # (B, d)
            loss = (found - torch.from_numpy(vectors[rows])).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.save_pretrained(folder)


def seconds(encoder, texts: list[str]) -> float:
    """Return the CPU time of encoding texts that are in no cache: each call has its own number."""
    turn = next(_turns)
    fresh = [f"{text} {turn}" for text in texts]
    start = process_time()
    encoder.encode(fresh)
    return process_time() - start


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Return the ten nearest texts of each text by cosine."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :N_NEIGHBOURS]


def likeness(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Return the mean cosine of two tables of vectors, and how many of ten neighbours stay."""
    lengths = np.linalg.norm(true, axis=1) * np.linalg.norm(found, axis=1)
    pairs = zip(nearest(true).tolist(), nearest(found).tolist(), strict=True)
    return {
        "cosine": float(((true * found).sum(1) / lengths).mean()),
        "neighbours_kept": float(np.mean([len(set(a) & set(b)) for a, b in pairs])),
    }


def areas(log: Log, backbone: str | None, seed: int, cold: np.ndarray) -> dict[str, float]:
    """Return the AUC after a fit without the items of ``cold``: of later rows, and of new items."""
    known, rest = np.flatnonzero(~cold[: log.start]), slice(log.start, None)
    X, y, cold_rest = log.X[rest], log.y[rest], cold[rest]
    test = slice(log.middle - log.start, None)  # the last tenth
    model = make_model(backbone, seed).fit(log.X.iloc[known], log.y[known])
    static = model.predict_proba(X)[:, 1]
    stream = copy.deepcopy(model).partial_fit_predict_proba(X, y)
    return {
        "never_updated_cold": float(roc_auc_score(y[cold_rest], static[cold_rest])),
        "stream_cold": float(roc_auc_score(y[cold_rest], stream[cold_rest])),
        "stream": float(roc_auc_score(y, stream)),
        "stream_test": float(roc_auc_score(y[test], stream[test])),
    }


def layers_task(log: Log, folder: str, seeds: list[int]) -> None:
    """Print AUC, encoding time and neighbours of encoders with two layers and with all six.

    Students are trained on the texts of the items that `fit` knows. Neighbours are those among the
    texts of the hidden items.
    """
    for seed in seeds:
        items = log.catalogue["item_id"].to_numpy()
        hidden = np.random.default_rng(seed).choice(items, int(HIDDEN * len(items)), replace=False)
        cold, is_new = log.X["item_id"].isin(hidden).to_numpy(), np.isin(items, hidden)
        texts = log.catalogue["text"].to_numpy()
        old, new = (list(dict.fromkeys(texts[part])) for part in (~is_new, is_new))
        teacher = load_encoder(folder)
        targets, true = teacher.encode(old), teacher.encode(new)
        row("layers", log.name, "no texts", seed=seed, **areas(log, None, seed, cold))
        row("layers", log.name, "6 layers", seed=seed, **areas(log, folder, seed, cold))
        for kept in LAYERS:
            for n_epochs in EPOCHS:
                with TemporaryDirectory() as place:
                    start = process_time()
                    student = cut_layers(folder, kept, Path(place, "student"))
                    if n_epochs:
                        match(student, old, targets, n_epochs, seed)
                    figures = {"train_s": process_time() - start}
                    encoder = load_encoder(str(student))
                    pairs = [
                        [seconds(one, new[:N_TIMED]) for one in (teacher, encoder)]
                        for _ in range(N_PAIRS)
                    ]
                    ratios = [a / b for a, b in pairs]
                    row(
                        "layers", log.name, f"layers {kept}, {n_epochs} epochs", seed=seed,
                        **figures, **likeness(true, encoder.encode(new)),
                        times=float(np.median(ratios)), range_times=[min(ratios), max(ratios)],
                        ms_a_text=float(np.median(pairs, axis=0)[1] / len(new[:N_TIMED]) * 1000),
                        **areas(log, str(student), seed, cold),
                    )  # fmt: skip
