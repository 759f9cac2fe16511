"""A headless Chromium on a leash: what it asked for, what it said to its console, and what it saw."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
from urllib.parse import urlsplit

from websockets.sync.client import connect

from tests.system import program

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
    # the browser's own services dial its maker: no name but this machine's has an address here
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)
_INSIDE = ("127.0.0.1", "localhost", "::1")


def found():
    """The program; skips where the system has none."""
    return program("chromium")


class Chromium:
    """One page of one browser. `requests`: URLs. `console`: whatever was said. Both from the beginning on."""

    def __init__(self, folder):
        self.folder, self.netlog = folder, folder / "netlog.json"
        self.requests, self.console, self._number, self._loaded = [], [], 0, False

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            port, path = self._start(stack)
            self._socket = stack.enter_context(connect(f"ws://127.0.0.1:{port}{path}", max_size=None))
            targets = self._ask("Target.getTargets", session=None)["targetInfos"]
            (target,) = (one["targetId"] for one in targets if one["type"] == "page")
            attached = self._ask("Target.attachToTarget", session=None, targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                self._ask(f"{domain}.enable")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self._ask("Browser.close", session=None)
        self._stack.close()

    def _start(self, stack):
        """Port and path of its DevTools."""
        profile = self.folder / "profile"
        log = stack.enter_context((self.folder / "chromium.log").open("wb"))
        command = [
            found(),
            *_FLAGS,
            f"--user-data-dir={profile}",
            f"--log-net-log={self.netlog}",
            "about:blank",
        ]
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        stack.callback(_ended, process)
        chosen = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (chosen.exists() and chosen.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium has not started"
            assert process.poll() is None, "Chromium has ended"
            time.sleep(0.05)
        return chosen.read_text().split("\n")[:2]

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

    def whole(self, file):
        """A picture of the whole page, not of what the window shows of it."""
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return self.picture(file, clip=clip)

    def picture(self, file, **how):
        taken = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, **how)
        file.write_bytes(base64.b64decode(taken["data"]))
        return file


def _ended(process):
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def beyond_this_machine(urls):
    """Those of the URLs that lead away from it."""
    local = ("data", "blob", "about", "chrome", "devtools", "chrome-untrusted")
    parts = [(url, urlsplit(url)) for url in urls]
    return [url for url, part in parts if part.scheme not in local and part.hostname not in _INSIDE]


def requests_of_pages(netlog):
    """Every URL that a page asked for, by the net log of the whole browser; read after it ended.

    The browser has services of its own, which ask for themselves: their requests have no page as initiator, and here
    find no address. What a person opens has none either, and is seen by `requests`.
    """
    log = json.loads(netlog.read_text())
    begun = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    started = [event["params"] for event in log["events"] if event["type"] == begun and "params" in event]
    assert started
    return [one["url"] for one in started if one.get("initiator", "not an origin") != "not an origin"]
