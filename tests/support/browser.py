"""Debian's Chromium, headless, driven by the DevTools protocol over a pipe (no driver, no library).

The browser reads messages from descriptor 3 and writes them to 4; each is JSON and ends with a NUL.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.waiting import eventually

_ANSWER_S = 60.0
_FLAGS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)


def program() -> str | None:
    return shutil.which("chromium")


class Refused(Exception):
    """What the browser says about a call of the protocol that failed."""


class Browser:
    """`trusted`: a PEM file with certificates that it takes for good, whoever signed them."""

    def __init__(self, folder: Path, trusted: Path | None = None) -> None:
        command = [program() or "chromium", *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        if trusted is not None:
            command.append(f"--ignore-certificate-errors-spki-list={_key_digest(trusted)}")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        with (folder / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(folder)},
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._unread = b""

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of a call; Refused."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _ANSWER_S
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise Refused(answer["error"]["message"])
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._in, 1 << 16) if ready else b""
            assert data, "the browser does not answer"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, url: str) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        page.go(url)
        return page

    def close(self) -> None:
        os.close(self._out)  # which ends it
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)


class Page:
    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def go(self, url: str) -> None:
        """Until its document is there."""
        self._call("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """What an expression comes to, a promise's end included; AssertionError for what it throws,
        Refused while the page changes."""
        told = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait_for(self, condition: str) -> None:
        def holds() -> bool:
            try:
                return bool(self.evaluate(condition))
            except Refused:
                return False  # between two documents

        eventually(holds, within_s=_ANSWER_S, what=condition)

    def choose(self, selector: str, file: Path) -> None:
        """The file, in an input for files."""
        found = self._call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")
        self._call("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])


def _key_digest(certificate: Path) -> str:
    """As the browser's flag wants it: SHA-256 of the public key's info."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(sha256(info).digest()).decode()


class Site:
    """An origin. `pages`: HTML by path; any other path has an empty page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, str] = {}


@contextlib.contextmanager
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = made.pages.get(self.path.partition("?")[0], "<title>a page</title>").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
