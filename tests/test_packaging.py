"""Versions, files of the source distribution and links of the pages agree with each other."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGES = [
    *(p for p in ROOT.glob("*.md")),
    *(p for p in ROOT.glob("docs/*.md")),
    *(p for p in ROOT.glob("benchmarks/**/*.md")),
]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lower_bounds(project):
    """Return the lower bound of each package of the project and of the extra ``test``."""
    extras = project["project"]["optional-dependencies"]
    lines = project["project"]["dependencies"] + extras["test"]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in lines]
    assert all(found), "a dependency of the tests has no single lower bound"
    return {match[1]: match[2] for match in found}


def pinned(name):
    """Return the pins of a constraints file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def same(version, other):
    """Return whether two versions differ by trailing zeros at most."""
    return re.sub(r"(\.0)+$", "", version) == re.sub(r"(\.0)+$", "", other)


def test_the_lowest_versions_are_the_bounds_of_the_project(project):
    bounds, pins = lower_bounds(project), pinned("constraints-lowest.txt")
    assert bounds.keys() <= pins.keys()
    wrong = {name: pins[name] for name in bounds if not same(bounds[name], pins[name])}
    assert not wrong, "constraints-lowest.txt differs from pyproject.toml"


def test_an_extra_has_the_same_bound_everywhere(project):
    bounds = {}
    for lines in project["project"]["optional-dependencies"].values():
        for name, bound in (line.split(">=") for line in lines):
            bounds.setdefault(name.split("[")[0], set()).add(bound)
    assert not {name: b for name, b in bounds.items() if len(b) > 1}


def test_the_source_distribution_has_what_it_needs(project):
    sdist = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in ["/constraints.txt", "/constraints-lowest.txt", "/conftest.py", "/tests", "/docs"]:
        assert name in sdist


def anchors(page):
    """Return the anchors of the headings of a Markdown page, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    plain = [re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def broken_links(page):
    """Return the relative links of a Markdown page that lead nowhere."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        in_page = not anchor or target.suffix != ".md" or anchor in anchors(target)
        if not target.exists() or not in_page:
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One thing\n[a](#one-thing) [b](#two) [c](gone.md) [d](https://x.org)\n")
    assert broken_links(page) == ["#two", "gone.md"]


def missing_files(page):
    """Return the files and folders of the project that a page names and that do not exist."""
    text = re.sub(r"--output[ =]\S+", "", page.read_text(encoding="utf-8"))
    named = re.findall(
        r"(?<![\w/.:-])((?:benchmarks|docs|sklearn_recft|tests|\.ci)/[\w./-]*\w)", text
    )
    made = re.compile("docs/_build|neighbors")  # what a build writes; the example of a new model
    return [
        name for name in named
        if not made.search(name) and not any((here / name).exists() for here in (ROOT, page.parent))
    ]  # fmt: skip


def test_files_that_pages_name_exist():
    folders = ["docs", *(f"docs/{name}" for name in ("benchmarks", "examples", "guide"))]
    written = [p for folder in folders for p in (ROOT / folder).glob("*.*")]
    pages = [p for p in (*PAGES, *written) if p.suffix in (".md", ".rst", ".py")]
    pages = [p for p in pages if p.name not in ("CHANGELOG.md", "sg_execution_times.rst")]
    assert {"README.md", "dependencies.rst", "serving.rst"} <= {page.name for page in pages}
    assert not {page.name: missing for page in pages if (missing := missing_files(page))}


def test_a_missing_file_is_found(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text("``tests/gone.py``, ``.ci/run``, https://x.org/docs/a, --output docs/new")
    assert missing_files(page) == ["tests/gone.py"]
