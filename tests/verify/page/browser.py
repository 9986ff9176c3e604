"""A real browser, asked through its debugging pipe: the page as a reader has it."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Browser:
    """Chromium's DevTools protocol: a command as JSON, ended by a zero, on descriptor 3; answers on 4."""

    def __init__(self, requests, answers):
        self.requests, self.answers = requests, answers
        self.unread = b""
        self.count = 0
        self.session = None

    def ask(self, method, **parameters):
        """The result of a command."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self):
        while b"\0" not in self.unread:
            more = os.read(self.answers, 1 << 20)
            assert more, "the browser has gone"
            self.unread += more
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def open(self, file):
        """Show a file, until it has loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Page.navigate", url=file.resolve().as_uri())
        while self.read().get("method") != "Page.loadEventFired":
            pass

    def look(self, width, scheme="light"):
        """As a screen of that width shows it, light or dark."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        told = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self, file, whole=True):
        """A PNG of the page, or of what is seen first."""
        told = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(told["data"]))


@contextlib.contextmanager
def browser():
    """A browser of its own, gone at the end."""
    from_us, requests = os.pipe()
    answers, to_us = os.pipe()
    with tempfile.TemporaryDirectory(prefix="bnjax-browser-") as profile:
        plumbing = f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}'
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        process = subprocess.Popen(
            ["bash", "-c", plumbing, *command],
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        try:
            yield Browser(requests, answers)
        finally:
            process.terminate()
            process.wait(30)
            os.close(requests)
            os.close(answers)
