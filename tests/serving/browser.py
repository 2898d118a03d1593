"""Headless Chromium by the WebDriver protocol: only what the tests of the dashboard need."""

import base64
import contextlib
import re
import shutil
import subprocess
import time

import httpx
import pytest

_ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]  # fmt: skip
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window."""

    def __init__(self, http, session):
        self._http, self._session = http, f"/session/{session}"

    def call(self, method, path, body=None):
        answer = self._http.request(method, self._session + path, json=body).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{answer['error']}: {answer['message'].splitlines()[0]}")
        return answer

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def command(self, name, **params):
        """Send a command of the DevTools protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": name, "params": params})

    def _find(self, selector):
        body = {"using": "css selector", "value": selector}
        return self.call("POST", "/element", body)[_ELEMENT]

    def click(self, selector):
        self.call("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector, text):
        found = self._find(selector)
        self.call("POST", f"/element/{found}/clear", {})
        self.call("POST", f"/element/{found}/value", {"text": text})

    def text(self, selector):
        return self.call("GET", f"/element/{self._find(selector)}/text")

    def wait(self, condition, seconds=20):
        """Wait until an expression of JavaScript is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, (condition, self.text("body")[:800])
            time.sleep(0.05)

    def console(self):
        """Return the errors and warnings of the console since the last call."""
        found = self.call("POST", "/se/log", {"type": "browser"})
        return [one["message"] for one in found if one["level"] in ("SEVERE", "WARNING")]

    def look(self, width, scheme):
        """Set the width of the window, and light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.command("Emulation.setScrollbarsHidden", hidden=True)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path):
        found = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def chromium(folder):
    """Start Chromium, or skip where it is not installed."""
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and program):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = next(
            found[1] for line in process.stdout if (found := re.search(r"on port (\d+)\.", line))
        )
        options = {"binary": program, "args": [*_ARGS, f"--user-data-dir={folder}"]}
        wanted = {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            body = {"capabilities": {"alwaysMatch": wanted}}
            started = http.post("/session", json=body).json()["value"]
            browser = Browser(http, started["sessionId"])
            yield browser
            browser.call("DELETE", "")
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
