"""Damage encrypted models: every way that somebody without the key may change a folder."""

import json
import shutil
from pathlib import Path

import numpy as np

from sklearn_recft.persistence import load

ROLES = ("MANIFEST", "model", "tensors")
TAG = 16


class SealedCopy:
    """A copy of an encrypted folder, to be damaged.

    Attributes
    ----------
    other, plain : Path
        Another save of the same model, with the same key, and one without a key.
    segment : int
        Bytes of a segment, with its tag.
    """

    def __init__(self, sources, folder, rng, segment):
        source, self.other, self.plain = map(Path, sources)
        self.folder, self.rng, self.segment = Path(folder), rng, segment + TAG
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)

    def choice(self, values):
        return values[self.rng.integers(len(values))]

    def file(self, roles=ROLES):
        return file_of(self.folder, self.choice(roles))

    def segments(self):
        """Return a file of some segments, and the segments."""
        path = self.file(ROLES[1:])
        data = path.read_bytes()
        return path, [data[i : i + self.segment] for i in range(0, len(data), self.segment)]


def file_of(folder, role):
    return next(path for path in folder.iterdir() if path.name.startswith(role))


# ------------------------------------------------------------------ damage; False where this copy
# cannot be damaged so


def flipped(copy):
    path = copy.file()
    data = bytearray(path.read_bytes())
    data[copy.rng.integers(len(data))] ^= 1 << copy.rng.integers(8)
    path.write_bytes(data)


def flipped_in_a_segment(copy):
    path, segments = copy.segments()
    place = copy.rng.integers(len(segments))
    changed = bytearray(segments[place])
    changed[copy.rng.integers(len(changed))] ^= 1 << copy.rng.integers(8)
    path.write_bytes(b"".join([*segments[:place], changed, *segments[place + 1 :]]))


def truncated(copy):
    path = copy.file()
    data = path.read_bytes()
    path.write_bytes(data[: copy.rng.integers(len(data) - 1)])


def last_segments_cut_off(copy):
    path, segments = copy.segments()
    path.write_bytes(b"".join(segments[: copy.rng.integers(len(segments))]))


def longer(copy):
    path = copy.file(ROLES[1:])
    path.write_bytes(path.read_bytes() + copy.rng.bytes(copy.rng.integers(1, 99)))


def segments_swapped(copy):
    path, segments = copy.segments()
    if len(segments) < 3:
        return False
    one, two = copy.rng.choice(len(segments) - 1, 2, replace=False)
    segments[one], segments[two] = segments[two], segments[one]
    path.write_bytes(b"".join(segments))
    return None


def segment_doubled(copy):
    path, segments = copy.segments()
    if len(segments) < 3:
        return False
    one, two = copy.rng.choice(len(segments) - 1, 2, replace=False)
    segments[one] = segments[two]
    path.write_bytes(b"".join(segments))
    return None


def segment_of_another_save(copy):
    path, segments = copy.segments()
    theirs = file_of(copy.other, path.name.split("-")[0]).read_bytes()
    place = copy.rng.integers(len(segments))
    begin = place * copy.segment
    segments[place] = theirs[begin : begin + len(segments[place])]
    path.write_bytes(b"".join(segments))


def file_of_another_save(copy):
    path = copy.file(ROLES[1:])
    path.write_bytes(file_of(copy.other, path.name.split("-")[0]).read_bytes())


def manifest_of_another_save(copy):
    path = copy.file(ROLES[:1])
    path.write_bytes(file_of(copy.other, "MANIFEST").read_bytes())


def files_exchanged(copy):
    one, two = (file_of(copy.folder, role) for role in ROLES[1:])
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def readable_model(copy):
    """Put a readable model, which everybody can write, in place of the encrypted one."""
    shutil.rmtree(copy.folder)
    shutil.copytree(copy.plain, copy.folder)


def manifest_values(copy):
    path = copy.file(ROLES[:1])
    manifest = json.loads(path.read_text())
    theirs = json.loads(file_of(copy.other, "MANIFEST").read_text())
    name = copy.choice(sorted(manifest))
    changed = copy.choice([None, 1, "", "0", "f" * 64, theirs[name], manifest[name] * 2, [], {}])
    if changed == manifest[name]:
        return False
    path.write_text(json.dumps(manifest | {name: changed}))
    return None


SEALED_DAMAGE = (
    flipped, flipped_in_a_segment, truncated, last_segments_cut_off, longer, segments_swapped,
    segment_doubled, segment_of_another_save, file_of_another_save, manifest_of_another_save,
    files_exchanged, readable_model, manifest_values,
)  # fmt: skip


def damage_sealed(sources, folder, seed, segment):
    """Damage a copy of an encrypted folder; return what was done, or None."""
    rng = np.random.default_rng(seed)
    change = SEALED_DAMAGE[rng.integers(len(SEALED_DAMAGE))]
    done = change(SealedCopy(sources, folder, rng, segment))
    return None if done is False else change.__name__


def outcome_of_sealed(folder, key):
    """Load a damaged folder; return "refused", or what is wrong."""
    try:
        load(folder, key=key)
    except ValueError as error:
        return "refused" if str(folder) in str(error) else f"no file is named: {error}"
    except FileNotFoundError as error:
        return "refused" if str(folder) in str(error) else f"no file is named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"
