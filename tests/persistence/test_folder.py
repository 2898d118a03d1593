"""Folders of saved models: whole, damaged, saved to again, and killed while they are written."""

import json
import os
import pickle
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import EarlyStopping

from benchmarks.files.mutations import DAMAGE, Copy, damage, outcome_of
from sklearn_recft import (
    AdaptiveRecommender,
    BiasRecommender,
    DecayBertRecommender,
    EASERecommender,
    FineTuning,
    HabitRecommender,
    IncrementalDCNRecommender,
    IncrementalMFRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    RP3BetaRecommender,
    load,
    save,
)
from sklearn_recft.models._layout import LAYOUTS
from sklearn_recft.persistence import ModelStore, inspect
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import ActivityFeatures, BehaviorText, PairMeans
from tests.contract.discovery import all_estimators, small
from tests.contract.helpers import answers, as_table, make_log, make_news, update
from tests.persistence.processes import Started

FIXTURES = Path(__file__).parent / "format_1"


def fitted_mf():
    X, y = make_log(120)
    return IncrementalMFRecommender(n_factors=2, max_epochs=2, replay_size=20, random_state=0).fit(
        X, y
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Folders of small models, of other parts each."""
    X, y = make_log(120)
    folder = tmp_path_factory.mktemp("sources")
    models = {
        "MF": fitted_mf(),
        "softmax": IncrementalMFRecommender(
            n_factors=2, loss="softmax", history_half_life=2, habit_half_life=9, max_epochs=2
        ).fit(X),
        "EASE": EASERecommender(reg=1.0).fit(X, y),
        "habits": HabitRecommender().fit(X),
        "pairs": PairMeans().fit(X, y),
    }
    for name, model in models.items():
        save(model, folder / name)
    return [folder / name for name in models]


@pytest.mark.parametrize("name", all_estimators())
def test_an_unfitted_estimator(name, tmp_path):
    estimator = small(all_estimators()[name])
    digest = save(estimator, tmp_path / "model")
    twin = load(tmp_path / "model", expect=type(estimator), digest=digest)
    assert repr(twin) == repr(estimator)
    assert save(twin, tmp_path / "model") == digest


def test_the_options_of_training(tmp_path):
    training = FineTuning(patience=2, learning_rate=0.5)
    save(RealtimeTransformerRecommender(training=training), tmp_path / "model")
    assert load(tmp_path / "model").training.get_params() == training.get_params()


def test_a_pipeline(tmp_path):
    X, y = make_log()
    pipe = make_recommender_pipeline(FunctionTransformer(), PopularityRecommender()).fit(X, y)
    pipe.save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert_array_equal(answers(twin), answers(pipe))
    assert_array_equal(answers(twin.partial_fit(X, y)), answers(pipe.partial_fit(X, y)))


def test_a_cache_of_a_pipeline_is_refused(tmp_path):
    pipe = make_recommender_pipeline(FunctionTransformer(), PopularityRecommender())
    pipe.save(tmp_path / "model")
    copy = Copy(tmp_path / "model", tmp_path / "changed", None, rehash=True)
    text = copy.file("model").read_text()
    assert text.count('"memory":null') == 1
    copy.write("model", text.replace('"memory":null', '"memory":"cache"').encode())
    with pytest.raises(ValueError, match="json: memory: the next fit would unpickle"):
        load(tmp_path / "changed")
    with pytest.raises(TypeError, match="memory: the next fit would unpickle"):
        pipe.set_params(memory=str(tmp_path)).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_blend_with_an_estimator_of_scikit_learn(tmp_path):
    X, y = make_log()
    members = [("popularity", PopularityRecommender()), ("bias", BiasRecommender())]
    final = LogisticRegression(max_iter=9999)
    model = AdaptiveRecommender(members, final_estimator=final, random_state=0)
    model.fit(X, y).save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert_array_equal(answers(twin), answers(model))
    assert_array_equal(answers(update(twin, *make_news())), answers(update(model, *make_news())))


def test_transformers(tmp_path):
    X, y = make_log(80)
    vectors = {int(item): [1.0, float(item)] for item in np.unique(X[:, 1])}
    models = ActivityFeatures(item_vectors=vectors), PairMeans(), BehaviorText(max_history=3)
    for place, model in enumerate((*models, StandardScaler())):
        model.fit(X[:60], y[:60])
        save(model, tmp_path / str(place))
        twin = load(tmp_path / str(place))
        for one in (twin, model):
            one.partial_fit(X[60:], y[60:])
        assert_array_equal(twin.transform(X), model.transform(X))


IDS = {
    "strings": lambda codes: [f"item \ud800 {code}" for code in codes],
    "tuples": lambda codes: [(int(code), "a") for code in codes],
    "booleans": lambda codes: [bool(code % 2) for code in codes],
    "bytes": lambda codes: [b"x%d" % code for code in codes],
    "fractions": lambda codes: codes + 0.5,
    "times": lambda codes: codes.astype("datetime64[s]"),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_plain_type(kind, tmp_path):
    X, _ = make_log(80)
    table = as_table(IDS[kind](X[:, 0]), IDS[kind](X[:, 1]), X[:, 2])
    model = BiasRecommender().fit(table, np.arange(80.0))
    model.save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert twin.user_ids_.tolist() == model.user_ids_.tolist()
    assert_array_equal(twin.predict(table), model.predict(table))


def test_other_ids_and_callbacks_are_refused_by_name(tmp_path):
    X, _ = make_log(80)
    table = as_table([uuid.UUID(int=int(u)) for u in X[:, 0]], X[:, 1], X[:, 2])
    with pytest.raises(TypeError, match=r"ids.*UUID.*cannot be saved"):
        PopularityRecommender().fit(table).save(tmp_path / "model")
    estimator = RealtimeTransformerRecommender(net_params={"callbacks": [EarlyStopping()]})
    with pytest.raises(TypeError, match=r"net_params'\]\['callbacks'\]\[0\]: EarlyStopping"):
        estimator.save(tmp_path / "model")
    with pytest.raises(TypeError, match="A dict cannot be saved"):
        save({}, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_library_reads_the_arrays(tmp_path):
    model = fitted_mf()
    model.save(tmp_path / "model")
    found = inspect(tmp_path / "model")
    file = next((tmp_path / "model").glob("*.safetensors"))
    arrays = safetensors.numpy.load_file(file)
    assert {n: (a.dtype.name, a.shape) for n, a in arrays.items()} == found.arrays
    factors = next(a for n, a in arrays.items() if n.endswith("user_factors"))
    assert_array_equal(factors, model.user_factors_)
    assert (found.kind, found.params["n_factors"]) == ("IncrementalMFRecommender", 2)


@pytest.mark.parametrize("use_ids", [True, False])
def test_vectors_and_rows_without_ids(use_ids, tmp_path):
    """Scales of vectors, and stored rows of no user, are part of a file."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"clicks": rng.poisson(3, 60), "image": list(rng.normal(size=(60, 2)))})
    if use_ids:
        X["user_id"], X["item_id"] = rng.integers(0, [[5], [8]], (2, 60))
    y = rng.normal(size=60)
    model = IncrementalDCNRecommender(use_ids=use_ids, max_epochs=1, random_state=0).fit(X, y)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    for one in (model, other):
        one.partial_fit(X[:20], y[:20])
    assert_array_equal(other.predict(X), model.predict(X))


def test_a_knowledge_graph(tmp_path):
    X, _ = make_log(120)
    edges = [[item, "parity", int(item) % 2] for item in np.unique(X[:, 1])]
    model = RP3BetaRecommender(edges=edges, half_life=3.0, decay_floor=0.2).fit(X)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    for one in (model, other):
        one.partial_fit(X[:20])
    assert_array_equal(other.predict(X), model.predict(X))
    assert other.relation_weights_ == model.relation_weights_


def test_a_digest_is_that_of_the_model(tmp_path):
    X, y = make_log()
    whole = fitted_mf().partial_fit(X, y).partial_fit(*make_news())
    digest = whole.save(tmp_path / "whole", seq=9, metadata={"note": "äß"})
    half = fitted_mf().partial_fit(X, y)
    half.save(tmp_path / "half")
    replayed = load(tmp_path / "half").partial_fit(*make_news())
    assert replayed.save(tmp_path / "half") == digest
    assert inspect(tmp_path / "whole").metadata == {"note": "äß"}
    with pytest.raises(ValueError, match="its digest is"):
        load(tmp_path / "whole", digest="0" * 64)
    with pytest.raises(ValueError, match="not of a EASERecommender"):
        load(tmp_path / "whole", expect=EASERecommender)


def test_a_mapped_file_is_not_written_to(tmp_path):
    model = fitted_mf()
    digest = model.save(tmp_path / "model")
    mapped = load(tmp_path / "model", mmap=True)
    assert_array_equal(answers(update(mapped, *make_news())), answers(update(model, *make_news())))
    assert load(tmp_path / "model").save(tmp_path / "again") == digest


def test_a_copied_backbone_needs_no_folder(tmp_path, monkeypatch):
    table = as_table([1, 1, 2, 2], ["tea", "rye", "tea", "oat"], [1, 2, 3, 4])
    model = DecayBertRecommender("scratch", max_epochs=1, width=4, n_factors=2, random_state=0)
    model.fit(table, [0, 1, 1, 0])
    digest = model.save(tmp_path / "own")
    assert model.save(tmp_path / "copied", include_backbone=True) == digest  # it has no folder
    assert_array_equal(load(tmp_path / "copied").predict(table), model.predict(table))


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(notes.txt\)"):
        fitted_mf().save(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        fitted_mf().save(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is a file, and a saved model is a folder"):
        load(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="holds no saved model"):
        load(tmp_path)
    with pytest.raises(ValueError, match="seq=-1"):
        fitted_mf().save(tmp_path / "model", seq=-1)


# ------------------------------------------------------------------ damage


def use(model):
    """Use a model whose numbers may be wrong: any error will do, but no crash."""
    X, y = make_log(20)
    for call in ("predict", "recommend", "partial_fit", "transform"):
        try:
            with np.errstate(all="ignore"):
                getattr(model, call)(*((X, y) if call == "partial_fit" else (X,)))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            del error


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused(seed, sources, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    done, refused = damage(sources[seed % len(sources)], folder, seed)
    found = "refused" if done is None else outcome_of(folder, use)
    assert found == "refused" or (found == "loaded" and not refused), (done, found)


@pytest.mark.parametrize("change", DAMAGE, ids=lambda change: change.__name__)
def test_every_damage_is_refused_by_the_hash(change, sources, tmp_path):
    copy = Copy(sources[0], tmp_path / "damaged", np.random.default_rng(1), rehash=False)
    while change(copy) is False:
        pass
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path / "damaged")


def test_every_part_has_a_layout():
    """A part of a new model needs a line, or its files are refused."""
    assert {"SeenItems", "EventHistory", "Reservoir", "values"} <= LAYOUTS.keys()


# ------------------------------------------------------------------ other processes


AUDITED = """
import sys
from sklearn_recft import persistence
from sklearn_recft.persistence import load, save
for path in sys.argv[1:]:
    save(load(path), path + "-warm")  # imports run code of modules
seen = []
def hook(event, args):
    if event in ("exec", "compile", "marshal.load", "marshal.loads", "pickle.find_class",
                 "import", "os.system", "subprocess.Popen"):
        seen.append((event, str(args[0])[:80]))
sys.addaudithook(hook)
for path in sys.argv[1:]:
    load(path)
print(seen)
"""


def test_nothing_of_a_file_is_run(sources):
    assert Started(AUDITED, *sources).output().strip() == "[]"


CRASH = """
import errno, os, signal, sys
import numpy as np
from sklearn_recft import PopularityRecommender
from sklearn_recft.persistence import ModelStore, load, save
folder, mode = sys.argv[1:]
first = PopularityRecommender().fit(np.array([[1, 7], [2, 7]]))
later = PopularityRecommender().fit(np.array([[1, 8], [2, 9]]))
calls = {"n": 0, "at": None}
class Failed(OSError):
    pass
def watched(real):
    def call(*args, **options):
        calls["n"] += 1
        if calls["n"] == calls["at"]:
            if mode == "kill":
                os._exit(9)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)
    return call
os.fsync, os.replace = watched(os.fsync), watched(os.replace)
from sklearn_recft.persistence import _folder
_folder.write_tensors = watched(_folder.write_tensors)
def attempt(at, n):
    store, path = ModelStore(f"{folder}/store{n}"), f"{folder}/model{n}"
    calls.update(n=0, at=None)
    store.save(first, seq=1)
    save(first, path)
    calls.update(n=0, at=at)
    try:
        store.save(later, seq=2)
        save(later, path)
    except OSError:
        pass
    made = calls["n"]
    calls["at"] = None
    for model in (store.load(), load(path)):
        assert model.item_ids_.tolist() in ([7], [8, 9])
    store.save(later, seq=2)
    save(later, path)
    for model in (store.load(), load(path)):
        assert model.item_ids_.tolist() == [8, 9]
    return made
n_steps = attempt(None, 0)
assert n_steps >= 15, n_steps
for at in range(1, n_steps + 1):
    if mode == "kill":
        child = os.fork()
        if not child:
            attempt(at, at)
            os._exit(0)
        os.waitpid(child, 0)
        store, path = ModelStore(f"{folder}/store{at}"), f"{folder}/model{at}"
        for model in (store.load(), load(path)):
            assert model.item_ids_.tolist() in ([7], [8, 9])
        calls["at"] = None
        store.save(later, seq=2)
        save(later, path)
        for model in (store.load(), load(path)):
            assert model.item_ids_.tolist() == [8, 9]
        assert [p.name for p in (store.folder / "models").glob(".part*")] == []
    else:
        attempt(at, at)
print(n_steps)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("mode", ["kill", "full disk"])
def test_a_crash_leaves_the_old_or_the_new_model(mode, tmp_path):
    assert int(Started(CRASH, tmp_path, mode).output()) >= 15


def test_the_digest_of_another_process(sources, tmp_path):
    code = "import sys; from sklearn_recft import load; print(load(sys.argv[1]).save(sys.argv[2]))"
    printed = Started(code, sources[0], tmp_path / "again").output()
    assert printed.strip() == inspect(sources[0]).digest


# ------------------------------------------------------------------ stores


def test_a_store(tmp_path):
    store = ModelStore(tmp_path / "store", keep=2)
    with pytest.raises(FileNotFoundError, match="no model is current"):
        store.load()
    model = PopularityRecommender().fit(np.array([[1, 7], [2, 7]]))
    names = [store.save(model, seq=1)]
    with pytest.raises(FileNotFoundError, match="is a store of models: use ModelStore"):
        load(store.folder)
    assert store.save(model, seq=1) == names[0]
    for seq in (2, 3, 4):
        model.partial_fit(np.array([[seq, 7 + seq]]))
        names.append(store.save(model, seq=seq, metadata={"seq": seq}, promote=seq != 4))
    assert store.current() == names[2]
    assert [one.name for one in store.list()] == names[1:]  # the newest, and one to go back to
    assert [one.current for one in store.list()] == [False, True, False]
    assert store.load().n_items_ == 3
    assert store.rollback() == names[1] == store.current()
    with pytest.raises(ValueError, match="no model before"):
        store.rollback()
    store.promote(names[3])
    assert store.load(expect=PopularityRecommender).n_items_ == 4
    for name in ("../store", "000000000009-00000000"):
        with pytest.raises(ValueError, match=r"no name of a model|has no model"):
            store.promote(name)
    (tmp_path / "store" / "CURRENT").write_text("../../etc")
    with pytest.raises(ValueError, match="CURRENT"):
        store.load()
    with pytest.raises(ValueError, match="keep=0"):
        ModelStore(tmp_path, keep=0)


# ------------------------------------------------------------------ older formats


@pytest.mark.parametrize("name", ["mf", "ease", "pairs", "compact"])
def test_format_1_is_read(name):
    """Every release loads all older formats."""
    expected = json.loads((FIXTURES / "expected.json").read_text())[name]
    model = load(FIXTURES / name)
    found = model.transform if hasattr(model, "transform") else model.predict
    X, _ = make_log(20)
    np.testing.assert_allclose(np.ravel(found(X))[:20], expected, rtol=1e-5)
    assert_array_equal(pickle.loads(pickle.dumps(model)).__class__, model.__class__)


def test_fixtures_are_small():
    sizes = [path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < 100_000
