"""The page at `/` in a browser, for its tests."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from tests.worker.worker_client import LIMIT_S

FAINT = """(() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => rgb(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const contrast = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const ground = (node) => {
    const own = getComputedStyle(node).backgroundColor;
    return (rgb(own)[3] ?? 1) === 0 ? ground(node.parentElement) : own;
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    if (!node.checkVisibility() || node.closest("svg")) continue;
    const style = getComputedStyle(node);
    const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const bordered = node.matches("section, input, select, textarea, button.quiet");
    if (says && contrast(style.color, ground(node)) < 4.5) found.push(node.outerHTML);
    if (bordered && contrast(style.borderTopColor, ground(node.parentElement)) < 3)
      found.push(node.outerHTML);
  }
  return found;
})()"""
"""The parts of a page whose text (4.5 to 1) or whose border (3 to 1) stands out too little."""


class Page:
    """The page in a browser, and what went wrong in it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.keyboard = page.keyboard
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.set_default_timeout(LIMIT_S * 1000)

    def _said(self, message: Any) -> None:
        if message.type == "error" and "status of 40" not in message.text:
            self.problems.append(message.text)

    async def open(self) -> None:
        await self.page.goto(f"{self.url}/")

    def find(self, selector: str, text: str | re.Pattern[str] | None = None) -> Any:
        return self.page.locator(selector, has_text=text).first

    def row(self, model: str) -> Any:
        return self.page.locator(f"li[data-model='{model}']")

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    async def shows(self, selector: str, text: str | re.Pattern[str]) -> None:
        """Wait until a part of the page shows a text."""
        await self.find(selector, text).wait_for()

    async def evaluate(self, script: str) -> Any:
        return await self.page.evaluate(script)

    async def focused(self) -> str:
        """Return the name of what has the keyboard."""
        return str(
            await self.evaluate(
                "(({ariaLabel, id, textContent, tagName}) => "
                "ariaLabel || id || textContent || tagName)(document.activeElement)"
            )
        )

    async def faint(self) -> list[str]:
        """Return the visible parts whose text or border stands out too little."""
        return list(await self.evaluate(FAINT))

    async def until(self, condition: str, arg: Any = None) -> None:
        """Wait until a function of JavaScript returns what is true."""
        again = "await new Promise(requestAnimationFrame)"
        async with asyncio.timeout(LIMIT_S):
            await self.page.evaluate(
                f"async (arg) => {{ while (!({condition})(arg)) {again}; }}", arg
            )

    async def waits_for_focus(self, name: str) -> None:
        """Wait until what is called so has the keyboard."""
        own = "({ariaLabel, id}) => [ariaLabel, id]"
        await self.until(f"(name) => ({own})(document.activeElement).includes(name)", name)

    async def tab_to(self, name: str) -> None:
        """Press the tabulator until what is called so has the keyboard."""
        for _ in range(40):
            await self.keyboard.press("Tab")
            if await self.focused() == name:
                return
        raise AssertionError(f"{name} cannot be reached with the keyboard")


@contextlib.asynccontextmanager
async def opened(browser: Any, url: str, **options: Any) -> AsyncIterator[Page]:
    """Open the page in a context of its own; nothing may go wrong in it."""
    async with await browser.new_context(**options) as context:
        page = Page(await context.new_page(), url)
        await page.open()
        yield page
        assert page.problems == []
