"""The documentation lists every public name, and links only to what exists."""

import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import sklearn_recft
from sklearn_recft.base import recommender_tags

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
# Rooms whose names are exported elsewhere, or are for the package alone.
NOT_IN_REFERENCE = {
    "sklearn_recft.cli": "a command, not a library",
    "sklearn_recft.estimators": "exported by sklearn_recft itself",
    "sklearn_recft.history": "bounded memory of events, internal",
    "sklearn_recft.kernels": "compiled loops, internal",
    "sklearn_recft.loop": "exported by sklearn_recft.serving",
    "sklearn_recft.models": "fitted models, internal",
    "sklearn_recft.modules": "torch modules, internal",
    "sklearn_recft.training": "training of nets; sklearn_recft exports FineTuning",
}
PAGES = sorted(p for p in DOCS.glob("*.rst") if p.name != "sg_execution_times.rst")
PAGES += sorted(DOCS.glob("guide/*.rst")) + sorted(DOCS.glob("examples/*.*"))


@pytest.fixture(scope="module")
def reference():
    """Load the module that writes the API reference from its file."""
    spec = importlib.util.spec_from_file_location("docs_api", DOCS / "_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rooms_with_public_names():
    """Return each public module with the names in its ``__all__``."""
    found = pkgutil.walk_packages(sklearn_recft.__path__, "sklearn_recft.")
    names = [f.name for f in found if not any(p.startswith("_") for p in f.name.split("."))]
    rooms = {name: importlib.import_module(name) for name in ["sklearn_recft", *names]}
    return {name: room.__all__ for name, room in rooms.items() if hasattr(room, "__all__")}


def entries(page):
    """Return the names in the tables and toctrees of a page."""
    return set(re.findall(r"^   (?:\* - :obj:`)?([\w.]+)`?$", page, flags=re.MULTILINE))


def test_every_public_name_is_in_the_reference(reference):
    pages = reference.reference_pages()
    rooms = rooms_with_public_names()
    assert {"sklearn_recft", "sklearn_recft.metrics"} <= rooms.keys()
    for room in rooms.keys() - NOT_IN_REFERENCE.keys():
        assert room in entries(pages["index.rst"]), f"{room} is not in the reference"
        for name in rooms[room]:
            if name != "__version__":
                assert f"{room}.{name}.rst" in pages, f"{room}.{name} has no page"
                assert f"{room}.{name}" in entries(pages[f"{room}.rst"])
                assert name in entries(pages["index.rst"]), f"{room}.{name} is not listed"


def table_of_estimators(text):
    """Return the lines of the table of estimators in a Markdown page."""
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("| estimator |")]
    assert len(starts) == 1, "the page must have one table of estimators"
    table = lines[starts[0] :]
    return table[: table.index("")]


def test_the_readme_lists_every_estimator_by_its_tags(reference):
    assert table_of_estimators(README.read_text(encoding="utf-8")) == reference.estimator_rows()


def test_a_stale_table_of_estimators_is_caught(reference):
    stale = README.read_text(encoding="utf-8").replace("| `EASERecommender` |", "| `Gone` |")
    assert table_of_estimators(stale) != reference.estimator_rows()


def test_the_reference_says_what_every_estimator_keeps(reference):
    page = reference.reference_pages()["sklearn_recft.rst"]
    for estimator in reference.recommenders():
        keeps = recommender_tags(estimator).keeps
        assert f"     - {keeps.replace('`', '``')}\n" in page
        assert keeps, f"{type(estimator).__name__} does not say what it keeps"
        if hasattr(estimator, "adapt"):
            assert f"     - {recommender_tags(estimator).adapts}\n" in page


def test_the_readme_fits_two_screens():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 115


def test_every_estimator_is_exported_at_the_front_door():
    assert set(rooms_with_public_names()["sklearn_recft.estimators"]) <= set(sklearn_recft.__all__)


def test_a_page_shows_our_methods_and_only_names_the_others(reference):
    page = reference.object_page("sklearn_recft", "PopularityRecommender")
    for method in ("fit", "partial_fit", "predict", "recommend"):
        assert f".. automethod:: PopularityRecommender.{method}\n" in page
    assert ".. automethod:: PopularityRecommender.get_params" not in page
    assert "``get_params``" in page


def test_summaries_are_one_line_without_footnotes(reference):
    def thing():
        """Mean of
        something [1]_ [2]_.

        More.
        """

    assert reference.summary(thing) == "Mean of something."


def test_stale_pages_go_and_unchanged_pages_stay(reference, tmp_path):
    (tmp_path / "sklearn_recft.Gone.rst").write_text("Gone")
    reference.write_reference(tmp_path)
    index = tmp_path / "index.rst"
    written = index.stat().st_mtime_ns
    reference.write_reference(tmp_path)
    assert not (tmp_path / "sklearn_recft.Gone.rst").exists()
    assert index.stat().st_mtime_ns == written


def broken_references(text):
    """Return the names of this package that `text` links to and that do not exist."""
    broken = []
    for name in re.findall(r":(?:class|func|meth|mod|attr|obj):`~?(sklearn_recft[\w.]*)`", text):
        try:
            pkgutil.resolve_name(name)
        except (AttributeError, ImportError):
            broken.append(name)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_pages_link_to_what_exists(page):
    assert broken_references(page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_caught():
    text = ":class:`~sklearn_recft.Gone` :func:`sklearn_recft.metrics.ndcg_at_k`"
    assert broken_references(text) == ["sklearn_recft.Gone"]


def test_the_docs_are_found():
    assert {"index.rst", "getting_started.rst"} <= {page.name for page in PAGES}
