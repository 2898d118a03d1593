"""The dashboard: its files, its history of figures, and the page itself in headless Chromium."""

import contextlib
import os
import re
import threading
import time
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_recft import EASERecommender, IncrementalMFClassifier
from sklearn_recft.serving import FeedbackStore, Loop, create_app, make_server
from sklearn_recft.serving._history import History
from tests.serving.browser import chromium
from tests.serving.http_service import ROWS, Keys, header, running, secured

EVIL = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
NAMES = ("dashboard.html", "dashboard.css", "dashboard.js")
PAGES = {
    name: files("sklearn_recft.serving").joinpath("pages", name).read_text(encoding="utf-8")
    for name in NAMES
}


def model():
    return EASERecommender(reg=1.0).fit([*ROWS, ["ann", EVIL], ["dan", EVIL], ["dan", "jam"]])


# ------------------------------------------------------------------------------ files


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline():
    page, style, script = (PAGES[name] for name in NAMES)
    assert re.findall(r"<script[^>]*>", page) == ['<script src="/dashboard.js" defer>']
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sorted(sources) == ["#main", "/dashboard.css", "/dashboard.js", "data:,"]
    assert not re.search(r"url\(|@import", style)
    assert re.findall(r"https?://\S+", page + style + script) == [
        'http://www.w3.org/2000/svg",'  # a name, which is not loaded
    ]
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(",
                   "localStorage", "sessionStorage", "indexedDB", "cookie"):  # fmt: skip
        assert unsafe not in script


def test_headers_of_the_page(tmp_path):
    with secured(tmp_path) as (client, _):
        for path in ("/dashboard", "/dashboard.css", "/dashboard.js"):
            answer = client.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert 'data-keys="needed"' in client.get("/dashboard").text
    (tmp_path / "open").mkdir()
    with running(tmp_path / "open") as client:
        assert 'data-keys="none"' in client.get("/dashboard").text


# ------------------------------------------------------------------------------ history


def test_the_history_is_bounded_and_covers_all_of_the_time():
    now = [0.0]
    watch = SimpleNamespace(
        figures=lambda: {"loss": now[0], "drift": float("nan")}, gives_reasons=False,
        quality=SimpleNamespace(metric="rmse"), model="m",
    )  # fmt: skip
    history = History(watch, seconds=1.0, n_points=16, clock=lambda: now[0])
    for _ in range(200):
        now[0] += history.seconds
        history.add()
    found = history.document()
    assert found["time"] == sorted(found["time"])
    assert len(found["time"]) <= 17
    assert found["time"][-1] == now[0]
    steps = {b - a for a, b in zip(found["time"][:-2], found["time"][1:-1], strict=True)}
    assert steps == {history.seconds}
    assert found["time"][0] <= now[0] / 8
    assert found["figures"]["loss"] == found["time"]
    assert set(found["figures"]["drift"]) == {None}


def test_the_route_of_quality_has_the_figures_of_the_metrics(tmp_path):
    with running(tmp_path, model()) as client:
        found = client.post("/v1/recommend", json={"users": ["ann"], "n": 2}).json()
        client.post("/v1/recommend", json={"users": ["bob"], "n": 2, "remember": False})
        list_id, taken = found["lists"][0]["list_id"], found["lists"][0]["items"][0]["item_id"]
        event = {"user_id": "ann", "item_id": taken, "kind": "click", "list_id": list_id}
        seq = client.post("/v1/events", json={"events": [event]}).json()["seq"]
        client.post("/v1/recommend", json={"users": ["c"], "min_seq": seq, "remember": False})
        quality = client.get("/v1/quality").json()
        page = client.get("/metrics").text
    now = {name: column[-1] for name, column in quality["figures"].items()}
    assert (now["hit_rate"], now["n_lists"], now["seq"], now["lag"]) == (1.0, 1.0, 1.0, 0.0)
    assert "recft_hit_rate 1.0" in page
    assert "recft_forget_pending 0.0" in page
    assert quality["reasons"] is True
    assert now["drift"] is None
    assert len(quality["time"]) == len(quality["model"]) == len(quality["figures"]["seq"])


# ------------------------------------------------------------------------------ Chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@contextlib.contextmanager
def served(folder, first=None, feedback=None, **options):
    """Serve at a port; yield its address."""
    store = FeedbackStore(f"sqlite:///{folder}/feedback.db", durable=False)
    loop = Loop(first or model(), store, folder / "models", feedback=feedback)
    app = create_app(loop, watched=1.0, **options)
    server = make_server(app, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        store.close()


def fill(url, key=None):
    """Make lists, clicks and a saved model, so that there is something to see."""
    import httpx

    with httpx.Client(base_url=url, headers=header(key), trust_env=False) as http:
        for step in range(24):
            user = f"user-{step}"
            body = {"users": [user], "n": 4, "exclude_seen": False}
            one = http.post("/v1/recommend", json=body).json()["lists"][0]
            item = one["items"][step % 4]["item_id"]
            event = {"user_id": user, "item_id": item, "kind": "click"}
            if step % 3:
                event["list_id"] = one["list_id"]
            http.post("/v1/events", json={"events": [event]}).raise_for_status()
            if step == 8:
                http.post("/v1/models").raise_for_status()


# Pairs of text and background with too little contrast (WCAG 2.2 AA), and fields without a name.
_FAULTS = """
const light = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
  return "rgb(255, 255, 255)";
};
const faults = [];
for (const one of document.querySelectorAll("body *")) {
  const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !one.offsetParent || one.disabled) continue;
  const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
  if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) faults.push(one.outerHTML);
}
for (const one of document.querySelectorAll("input, select, button")) {
  const name = one.labels?.[0]?.textContent ?? one.ariaLabel ?? one.textContent;
  if (!name.trim()) faults.push(one.outerHTML);
}
return faults;
"""


def check_looks(browser, name, tmp_path):
    folder = Path(os.environ.get("SKLEARN_RECFT_SCREENSHOTS", tmp_path))
    for width, scheme in ((1280, "light"), (400, "light"), (1280, "dark"), (400, "dark")):
        browser.look(width, scheme)
        browser.wait(f"document.querySelector('svg').viewBox.baseVal.width < {width}")
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run(_FAULTS) == []
        path = folder / f"{name}-{width}-{scheme}.png"
        browser.screenshot(path)
        assert path.stat().st_size > 20_000


def test_the_page_with_keys(browser, tmp_path):
    keys = Keys(tmp_path)
    reader = keys.file.add(["metrics:read", "recommend:read"])
    with served(tmp_path, keys=keys.file) as url:
        fill(url, keys.all)
        browser.open(f"{url}/dashboard")
        assert browser.run("return document.querySelectorAll('#tiles div').length") == 0
        browser.type("#key", reader)
        browser.click("#connect button")
        browser.wait("document.querySelectorAll('figure').length === 4")
        assert "24" in browser.text("#tiles")
        browser.type("#user", "ann")
        browser.click("#look button")
        browser.wait("document.querySelectorAll('#list li').length")
        assert "because of" in browser.text("#list")
        assert EVIL in browser.text("#list")
        assert (
            browser.run("return document.querySelectorAll('#list script, #list img').length") == 0
        )
        browser.type("#admin-key", keys.by_scope["model:admin"])
        browser.click("#admin button[type=submit]")
        browser.wait("document.querySelectorAll('#models tbody tr').length > 1")
        before = browser.text("#models .live")
        assert before == "live"
        assert browser.run("return document.title") == "sklearn_recft: quality while serving"
        check_looks(browser, "keys", tmp_path)
        assert browser.console() == []

        browser.click("#rollback")
        browser.click("#confirm button[value=no]")
        browser.click("#models tbody button")
        assert "Promote" in browser.text("#question")
        browser.click("#yes")
        browser.wait("document.getElementById('message').textContent.endsWith('is live.')")
        browser.click("#rollback")
        browser.click("#yes")
        browser.wait("document.getElementById('message').textContent")
        kept = "return [localStorage.length, sessionStorage.length, document.cookie]"
        assert browser.run(kept) == [0, 0, ""]
        browser.console()

        browser.type("#admin-key", reader)  # a key without the scope changes nothing
        browser.click("#admin button[type=submit]")
        browser.wait("document.getElementById('message').textContent.includes('403')")
        assert "model:admin" in browser.text("#message")
        assert all("403" in one for one in browser.console())


def rate(url, n_requests=40, n_events=40):
    """Send ratings, and list some users; the model is rolled back on the way."""
    import httpx

    rng = np.random.default_rng(0)
    with httpx.Client(base_url=url, trust_env=False) as http:
        for step in range(n_requests):
            users = rng.integers(12, size=n_events).tolist()
            body = {"users": users[:1], "n": 4, "exclude_seen": False}
            one = http.post("/v1/recommend", json=body).json()["lists"][0]
            events = [
                {"user_id": u, "item_id": int(i), "kind": ("skip", "click")[int(i + u) % 2]}
                for u, i in zip(users, rng.integers(9, size=n_events), strict=True)
            ]
            if step % 2:
                taken = one["items"][step % 3]["item_id"]
                own = {"user_id": users[0], "list_id": one["list_id"]}
                events.append({**own, "item_id": taken, "kind": "click"})
            http.post("/v1/events", json={"events": events}).raise_for_status()
            if step in (10, 30):
                http.post("/v1/models").raise_for_status()
            if step == 25:
                http.post("/v1/models/rollback").raise_for_status()


def test_the_page_on_this_machine_needs_no_key(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(History.__init__, "__defaults__", (0.03, 240, time.time))
    log = np.random.default_rng(1).integers(9, size=(60, 2))
    first = IncrementalMFClassifier(n_factors=4, max_epochs=2, random_state=0)
    first.fit(log, (log.sum(axis=1) % 2).astype(int))
    with served(tmp_path, first, {"click": 1.0, "skip": 0.0}) as url:
        rate(url)
        browser.open(f"{url}/dashboard")
        browser.wait("document.querySelectorAll('figure').length === 4")
        assert not browser.run("return document.getElementById('key').checkVisibility()")
        assert browser.run("return document.querySelectorAll('svg.empty').length") == 0
        assert browser.run("return document.querySelectorAll('svg .change').length") >= 4
        browser.type("#user", "99")
        browser.run("document.getElementById('kind').value = 'number'")
        browser.click("#look button")
        browser.wait("document.querySelectorAll('#list li').length")
        browser.click("#admin button[type=submit]")
        browser.wait("document.querySelectorAll('#models tbody tr').length")
        check_looks(browser, "open", tmp_path)
        assert browser.console() == []
