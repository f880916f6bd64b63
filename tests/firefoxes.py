"""A headless Firefox that tests drive by WebDriver BiDi, which it speaks itself: https://www.w3.org/TR/webdriver-bidi/.

Playwright drives only a Firefox of its own making, which is a download.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

WAIT_S = 240.0
_READY = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
PREFERENCES = {
    "browser.download.folderList": 2,
    "browser.download.useDownloadDir": True,
    "browser.download.always_ask_before_handling_new_types": False,
    "app.update.auto": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


_MIDDLE = """new Promise((done) => {
  const element = document.querySelector(%s);
  let before = "";
  const look = () => {
    const box = element.getBoundingClientRect();
    const at = [box.left + box.width / 2, box.top + box.height / 2].map(Math.round);
    const now = at.join(" ");
    if (now === before && element.contains(document.elementFromPoint(...at))) done(now);
    else requestAnimationFrame(look);
    before = now;
  };
  look();
})"""


def found() -> str | None:
    """The command of a Firefox on the PATH."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """One browser with one page; what it saves is in ``downloads``, and errors of the page in ``wrong``."""

    def __init__(self, command: str, folder: Path) -> None:
        self.downloads, profile = folder / "downloads", folder / "profile"
        self.downloads.mkdir(parents=True)
        profile.mkdir()
        own = PREFERENCES | {"browser.download.dir": str(self.downloads)}
        lines = [f'user_pref("{key}", {str(v).lower() if isinstance(v, bool) else repr(v)});' for key, v in own.items()]
        (profile / "user.js").write_text("\n".join(lines).replace("'", '"'), encoding="utf-8")
        self.wrong: list[str] = []
        self._ids = itertools.count(1)
        self._loop = asyncio.new_event_loop()  # in a thread of its own: Playwright has one in that of the tests
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._process = subprocess.Popen(
            [command, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self._await(self._connect(self._address() + "/session"))
            self._send("session.new", capabilities={})
            self._send("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
            self._page = self._send("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(30)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def _address(self, wait_s: float = WAIT_S) -> str:
        lines: queue.Queue[str] = queue.Queue()
        stderr = self._process.stderr
        assert stderr is not None
        # It goes on reading, so that the browser never waits for room in the pipe.
        self._reader = threading.Thread(target=lambda: [lines.put(line) for line in stderr], daemon=True)
        self._reader.start()
        end = time.monotonic() + wait_s
        with contextlib.suppress(queue.Empty):
            while (left := end - time.monotonic()) > 0:
                if match := _READY.search(lines.get(timeout=left)):
                    return match[1]
        raise TimeoutError("Firefox did not start")

    async def _connect(self, url: str) -> None:
        import aiohttp

        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(url, max_msg_size=0)

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        return self._await(self._answer(method, params))

    def _await(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    async def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "log.entryAdded" and params["level"] == "error":
            self.wrong.append(str(params["text"]))
        url = params.get("request", {}).get("url", "")
        if url and not url.startswith(("file:", "blob:", "data:", "about:")) and params.get("context"):
            self.wrong.append(f"request {url}")

    def open(self, url: str) -> None:
        """Shows a page, and waits until it is loaded."""
        self._send("browsingContext.navigate", context=self._page, url=url, wait="complete")

    def run(self, expression: str) -> Any:
        """The value, a string, number or boolean, of an expression in the page."""
        answer = self._send("script.evaluate", expression=expression, target={"context": self._page}, awaitPromise=True)
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element shows."""
        return str(self.run(f"document.querySelector({selector!r}).innerText"))

    def shows(self, selector: str, text: str) -> None:
        """Waits until an element shows a text."""
        self.wait(f"document.querySelector({selector!r}).innerText === {json.dumps(text)}")

    def _perform(self, kind: str, *actions: dict[str, Any], **more: Any) -> None:
        source = {"type": kind, "id": kind, "actions": list(actions), **more}
        self._send("input.performActions", context=self._page, actions=[source])

    def click(self, selector: str) -> None:
        """Presses the mouse's button in the middle of an element, once it keeps still and nothing covers it."""
        x, y = map(int, self.run(_MIDDLE % repr(selector)).split())
        move = {"type": "pointerMove", "x": x, "y": y}
        self._perform("pointer", move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0})

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        self._perform("key", *({"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")))

    def wait(self, condition: str, wait_s: float = WAIT_S) -> None:
        """Until an expression in the page is true."""
        end = time.monotonic() + wait_s
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.05)

    def saved(self, ending: str, wait_s: float = WAIT_S) -> str:
        """The text of the file of that ending that the page has saved."""
        end = time.monotonic() + wait_s
        while True:
            files = [f for f in self.downloads.glob(f"*{ending}") if f.stat().st_size]
            if files and not list(self.downloads.glob("*.part")):
                return files[0].read_bytes().decode()
            if time.monotonic() > end:
                raise TimeoutError(f"nothing saved that ends in {ending}")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the browser; its processes end with the first."""
        try:
            self._await(self._client.close())
        finally:
            self._stop()
