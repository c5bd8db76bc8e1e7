"""A real browser without a window, spoken to over a pipe in the DevTools protocol: Chromium where there is one."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile

# A program that becomes another one, with two of its descriptors under the numbers that this one expects.
AS_3_AND_4 = """
import os, sys
read, write, *command = sys.argv[1:]
os.dup2(int(read), 103), os.dup2(int(write), 104), os.dup2(103, 3), os.dup2(104, 4)
os.execv(command[0], command)
"""
PATIENCE = 60  # seconds
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find():
    """The path of a Chromium, None where there is none."""
    named = os.environ.get("TINYGEN_CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab. `requests` are the URLs that it has asked for, `errors` what its console and scripts complained of."""

    def __init__(self, path):
        self.profile = tempfile.mkdtemp()
        ours, theirs = os.pipe(), os.pipe()  # what we write it reads on descriptor 3; it writes on 4
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_3_AND_4, str(ours[0]), str(theirs[1]), path, *flags, "--remote-debugging-pipe",
             f"--user-data-dir={self.profile}", "about:blank"],
            pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self.write, self.read = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb", buffering=0)
        self.number, self.session, self.rest = 0, None, b""
        self.requests, self.errors, self.loaded = [], [], False
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Send a command and wait for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        self.write.flush()
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def receive(self):
        while b"\0" not in self.rest:
            assert select.select([self.read], [], [], PATIENCE)[0], f"the browser says nothing for {PATIENCE} s"
            more = self.read.read(1 << 16)
            assert more, "the browser has gone"
            self.rest += more
        text, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(text)
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown" | "Log.entryAdded":
                self.errors.append(message["params"])
            case "Page.loadEventFired":
                self.loaded = True
        return message

    def open(self, url, width=1280, height=900, dark=False, paper=False):
        """Load a page at a size, light or dark, on a screen or on paper."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="print" if paper else "", features=[scheme])
        self.loaded = False
        self.ask("Page.navigate", url=url)
        while not self.loaded:
            self.receive()

    def evaluate(self, script):
        """The value of a JavaScript expression on the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path, whole=False):
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        self.session = None
        self.write.write(b'{"id": 0, "method": "Browser.close"}\0')
        self.write.flush()
        self.process.wait(timeout=20)
        self.write.close()
        self.read.close()
        shutil.rmtree(self.profile, ignore_errors=True)
