"""A headless Chromium on a leash: what it asked for, what it said to its console, and what it saw."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-port=0",
    # the browser's own services, not the page, dial these
    "--disable-features=OptimizationHints,MediaRouter,Translate,NetworkTimeServiceQuerying,AutofillServerCommunication",
)
_INSIDE = ("127.0.0.1", "localhost", "[::1]")


def found():
    """The program; skips where the system has none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium: the Debian package `chromium` is not installed")
    return program


class Chromium:
    """One page of one browser. `requests`: URLs. `console`: whatever was said. Both from the beginning on."""

    def __init__(self, folder):
        self.folder, self.netlog = folder, folder / "netlog.json"
        self.requests, self.console, self._number, self._loaded = [], [], 0, False

    def __enter__(self):
        profile = self.folder / "profile"
        self._log = (self.folder / "chromium.log").open("wb")
        command = [
            found(),
            *_FLAGS,
            f"--user-data-dir={profile}",
            f"--log-net-log={self.netlog}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        chosen = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (chosen.exists() and chosen.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium has not started"
            time.sleep(0.05)
        port, path = chosen.read_text().split("\n")[:2]
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
        targets = self._ask("Target.getTargets", session=None)["targetInfos"]
        (target,) = (one["targetId"] for one in targets if one["type"] == "page")
        attached = self._ask("Target.attachToTarget", session=None, targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self._ask("Browser.close", session=None)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _ask(self, method, session=..., **parameters):
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if session is ...:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            heard = self._hear(30)
            if heard.get("id") == number:
                assert "error" not in heard, heard["error"]
                return heard["result"]

    def _hear(self, seconds):
        heard = json.loads(self._socket.recv(timeout=seconds))
        what, about = heard.get("method"), heard.get("params", {})
        if what == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif what == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value")) for one in about["args"]))
        elif what == "Runtime.exceptionThrown":
            self.console.append(about["exceptionDetails"]["text"])
        elif what == "Log.entryAdded":
            self.console.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif what == "Page.loadEventFired":
            self._loaded = True
        return heard

    def settle(self, seconds=0.3):
        """Hear what comes within this time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                self._hear(left)

    def _until_loaded(self, act):
        self._loaded = False
        act()
        end = time.monotonic() + 30
        while not self._loaded:
            assert time.monotonic() < end, "the page has not loaded"
            self.settle(0.05)

    def open(self, url):
        self._until_loaded(lambda: self._ask("Page.navigate", url=url))

    def run(self, script):
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, script):
        """Something that leads to another page."""
        self._until_loaded(lambda: self.run(script))

    def until(self, script, seconds=10):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, script
            self.settle(0.1)

    def look(self, width, height=900, *, dark=False, touch=False):
        """The size of its window, and the scheme its user prefers."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self.settle()

    def picture(self, file):
        taken = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))
        return file


def outside(urls):
    """Those of the URLs that lead beyond this machine."""
    local = ("data", "blob", "about", "chrome", "devtools", "chrome-untrusted")
    parts = [(url, urlsplit(url)) for url in urls]
    return [
        url
        for url, part in parts
        if part.scheme not in local
        and part.netloc.rpartition(":")[0] not in _INSIDE
        and part.netloc not in _INSIDE
    ]


def logged_urls(netlog):
    """Every URL that the whole browser asked for, by its own net log; read after it ended."""
    log = json.loads(netlog.read_text())
    kinds = log["constants"]["logEventTypes"]
    begun = {kinds["URL_REQUEST_START_JOB"], kinds["REQUEST_ALIVE"]}
    return [
        event["params"]["url"]
        for event in log["events"]
        if event["type"] in begun and "url" in event.get("params", {})
    ]
