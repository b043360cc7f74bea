"""The console in a real browser: 20 hosts and 200 tasks of a real control.

With ``ECS_TEST_SCREENSHOTS=FOLDER``, pictures for the docs are written there.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.console.admission import Console
from tests.support.browser import browser_page, executable
from tests.support.console_fleet import HOSTS, KEY_ID, SECRET, SERVICES, TOKEN, a_shop
from tests.support.shell_host import shell_host

if TYPE_CHECKING:
    from tests.support.browser import Page
    from tests.support.console_fleet import Shop

BROWSER = executable()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        BROWSER is None, reason="no chromium here (Debian's package is called chromium)"
    ),
]

TASKS = sum(SERVICES.values())
SEEN_WITHIN_S = 2.0
ROUNDS = 5
MARKUP = "<img src=x onerror=alert(1)><b>not bold</b>"


async def test_twenty_hosts_and_two_hundred_tasks(tmp_path: Path) -> None:
    assert BROWSER is not None
    async with a_shop(tmp_path / "control", console=Console.KEYS) as shop:
        await shop.build()
        async with asyncio.timeout(120):
            while len(running := await shop.running()) < TASKS:  # noqa: ASYNC110 - as for an operator
                await asyncio.sleep(0.2)
        chosen = running[0]
        service = (await shop.endpoint.task(chosen))["group"].removeprefix("service:")
        await asyncio.to_thread(shop.tell_history, chosen, service, shop.agents[0].id)
        await shop.tell_usage()
        await shop.log(chosen, _LINES)
        await shop.fail(running[1], exit_code=137, reason="Essential container in task exited")
        await shop.fail(running[2], exit_code=1, reason="Essential container in task exited")
        async with browser_page(BROWSER, tmp_path / "browser") as page:
            await page.resize(1280, 800)
            await _sign_in(page, shop)
            await _pictures(page, chosen)
            await shop.fail(running[3], exit_code=1, reason=f"Essential container exited {MARKUP}")
            await _sees_everything(page, running)
            await _sees_changes(page, shop, running[4:])
            await _sees_one_task(page, shop, chosen)
            await _goes_by_keyboard(page)
            await _fits(page, shop, chosen, service)
            async with shell_host(shop.endpoint, shop.endpoint.url, "web", TOKEN) as task:
                await shop.log(task, ["started"])  # what commands write goes to its group
                await _has_a_terminal(page, task)
            await _signs_out(page)
            assert page.errors == []
            assert {url.split("/console")[0].rstrip("/") for url in page.requests} >= {shop.url}
            assert [url for url in page.requests if not url.startswith(f"{shop.url}/")] == []
            assert [sent for sent in page.sent if SECRET in sent] == []


async def _sign_in(page: Page, shop: Shop) -> None:
    await page.go(f"{shop.url}/console/")
    await page.until("document.querySelector('#key-id')")
    await _enter(page, "wrong-secret-of-the-tests-01234")
    await page.until("document.querySelector('.problem').textContent.includes('signature')")
    # The browser itself notes each answer that is an error.
    assert all("400" in error for error in page.errors)
    page.errors.clear()
    await _enter(page, SECRET)
    await page.until("document.querySelector('.tiles')")
    assert await page.value("location.hash") == "#/c/default"


async def _enter(page: Page, secret: str) -> None:
    await page.value(
        f"document.querySelector('#key-id').value = '{KEY_ID}';"
        f"document.querySelector('#secret').value = '{secret}';"
        "document.querySelector('form button').click()"
    )


async def _sees_everything(page: Page, running: list[str]) -> None:
    await _visit(page, "")
    await page.until("document.querySelector('.live').textContent === 'Live'")
    # Three have failed, and their services have started others.
    numbers = "[...document.querySelectorAll('.tile-number')].map(one => parseInt(one.textContent))"
    await page.until(f"String({numbers}) === '{len(SERVICES)},{TASKS},{HOSTS}'")
    await page.until("document.querySelectorAll('.troubles li').length === 3")
    await _visit(page, "/hosts")
    await page.until(f"document.querySelectorAll('tbody tr').length === {HOSTS}")
    assert await page.value("document.querySelector('tbody').textContent.includes('rack1-node01')")
    await _visit(page, "/tasks?status=all")
    await page.until(f"document.querySelectorAll('tbody tr').length === {TASKS + 3}")
    await _visit(page, "/tasks?status=stopped&q=137")
    await page.until("document.querySelectorAll('tbody tr').length === 1")
    assert await page.value(f"Boolean(document.querySelector('a[href*=\"{_id(running[1])}\"]'))")
    # A task is linked to by its place alone, also after a reload, which does not sign out.
    await _visit(page, f"/tasks/{_id(running[3])}")
    await page.send("Page.reload")
    await page.until("document.querySelector('.reason')?.textContent.includes('not bold')")
    assert await page.value("document.querySelectorAll('main img, main b').length") == 0


async def _sees_changes(page: Page, shop: Shop, running: list[str]) -> None:
    await _visit(page, "/tasks?status=all")
    began = time.monotonic()
    await page.send("Page.reload")
    await page.until(f"document.querySelectorAll('tbody tr').length >= {TASKS}")
    # Where even this takes longer, the machine has no time for anything.
    limit_s = max(SEEN_WITHIN_S, time.monotonic() - began)
    took_s = []
    for arn in running[:ROUNDS]:
        row = f"document.querySelector('tr[data-key=\"{_id(arn)}\"] .status').textContent"
        await page.until(f"{row} === 'Running'")
        await shop.fail(arn, exit_code=3, reason="Essential container in task exited")
        began = time.monotonic()
        await page.until(f"{row} === 'Stopped'")
        took_s.append(time.monotonic() - began)
    assert statistics.median(took_s) < limit_s, (took_s, limit_s)
    asked = len(page.requests)
    shown = (
        "[...document.querySelectorAll('td[data-label=CPU]')].map(one => one.textContent).join()"
    )
    before = await page.value(shown)
    await shop.tell_usage()
    await page.until(f"{shown} !== {before!r}")
    # Figures come with the stream, and nothing is asked for again because of them.
    assert [url for url in page.requests[asked:] if url.endswith("/control/usage")] == []


async def _sees_one_task(page: Page, shop: Shop, arn: str) -> None:
    await _visit(page, f"/tasks/{_id(arn)}")
    await page.until("document.querySelectorAll('.chart svg').length === 2")
    await shop.log(arn, [MARKUP])
    points = "document.querySelector('.chart polyline').getAttribute('points').split(' ').length"
    assert await page.value(points) >= 55
    lines = "document.querySelector('.log-lines').textContent"
    await page.until(f"{lines}.includes('not bold')")
    assert await page.value("document.querySelectorAll('.log-lines img, .log-lines b').length") == 0
    await shop.log(arn, ["a line that comes now"])
    await page.until(f"{lines}.includes('a line that comes now')")


async def _goes_by_keyboard(page: Page) -> None:
    await _visit(page, "/services")
    await page.until("document.activeElement.localName === 'h1'")
    await page.press("/", 191)
    await page.send("Input.dispatchKeyEvent", type="char", text="")
    assert await page.value("document.activeElement.type") == "search"
    await page.send("Input.insertText", text="checkout")
    await page.until("document.querySelectorAll('tbody tr').length === 1")
    assert (await page.value("location.hash")).endswith("services?q=checkout")
    await page.value("document.querySelector('tbody a').focus()")
    await page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r")
    await page.until("location.hash.endsWith('/services/checkout')")


async def _fits(page: Page, shop: Shop, task: str, service: str) -> None:
    await page.resize(400, 800)
    for place, shown in (
        ("", ".tiles"),
        ("/services", "tbody tr"),
        (f"/services/{service}", ".events"),
        ("/tasks?status=all", "tbody tr"),
        (f"/tasks/{_id(task)}", ".log-lines li"),
        ("/hosts", "tbody tr"),
        (f"/hosts/{shop.agents[0].id}", ".bars"),
    ):
        await _visit(page, place)
        await page.until(f"document.querySelector('main {shown}')")
        assert await page.value("document.documentElement.scrollWidth") <= 400, place
        small = (
            "[...document.querySelectorAll('#app *')].filter(one => "
            "one.getBoundingClientRect().right > 401 && !one.closest('.tabs, pre, .log-lines, .unseen'))"
            ".map(one => one.outerHTML.slice(0, 200))"
        )
        assert await page.value(small) == [], place
    await page.resize(1280, 800)


SHOWN = "document.querySelector('.term').innerText"
NOTE = "document.querySelector('.term').closest('.log').querySelector('.log-note').textContent"


async def _has_a_terminal(page: Page, task: str) -> None:
    """A real shell on a real terminal, whose bytes come the whole way through control."""
    await _visit(page, f"/tasks/{_id(task)}")
    await page.until("document.querySelector('button[data-do=terminal]')")
    await page.value("document.querySelector('button[data-do=terminal]').click()")
    await page.until(f"{SHOWN}.includes('$ ')")
    assert await page.value("document.activeElement.className") == "term-keys"
    # What is typed, a key with a meaning of its own, and colours.
    await _type(page, "printf '\\033[1;31mred\\033[0m and \\033[38;5;46mgreen\\033[0m\\n'")
    await page.until(f"{SHOWN}.includes('red and green')")
    assert await page.value("document.querySelector('.term .text-1.bold').textContent") == "red"
    assert (
        await page.value(
            "[...document.querySelectorAll('.term span')].find(one => one.textContent === 'green').style.color"
        )
        == "rgb(0, 255, 0)"
    )
    await page.send("Input.insertText", text="sleep 1000")
    await page.press("Enter", 13)
    await page.send(
        "Input.dispatchKeyEvent", type="rawKeyDown", key="c", code="KeyC",
        windowsVirtualKeyCode=67, modifiers=2,
    )  # fmt: skip
    await page.until(f"{SHOWN}.includes('^C')")
    # The command has the size of the page, and is told of another one.
    await _type(page, "stty size | tr ' ' x")
    size = "(() => { const found = [...document.querySelectorAll('.term-screen > div')].map(one => one.textContent.trim())"
    size += ".findLast(one => /^\\d+x\\d+$/.test(one)); return found ?? '' })()"
    await page.until(f"{size} !== ''")
    wide = int((await page.value(size)).partition("x")[2])
    assert wide > 80
    before = await page.value("document.querySelector('.term').dataset.size")
    await page.resize(400, 800)
    # The browser looks at sizes when it paints.
    await page.until(f"document.querySelector('.term').dataset.size !== {before!r}")
    await _type(page, "clear; stty size | tr ' ' x")
    await page.until(f"{size} !== '' && parseInt({size}.split('x')[1]) < {wide}")
    assert await page.value("document.documentElement.scrollWidth") <= 400
    assert await page.value(
        "document.querySelector('.term').scrollWidth <= document.querySelector('.term').clientWidth"
    )
    await page.resize(1280, 800)
    # A paste of several lines, markup that stays text, and more output than the screen has rows.
    await page.value(
        "(() => { const data = new DataTransfer(); data.setData('text', 'echo pasted\\necho \"<b>kept</b>\"\\n');"
        "document.querySelector('.term-keys').dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, cancelable: true})) })()"
    )
    await page.until(f"{SHOWN}.includes('<b>kept</b>')")
    assert await page.value("document.querySelectorAll('.term b').length") == 0
    await _type(page, "seq 1 500; echo 漢字-$((6 * 7))")
    await page.until(f"{SHOWN}.includes('漢字-42')")
    assert await page.value("document.querySelectorAll('.term-history > div').length") >= 460
    await _picture(page, "terminal")
    await _type(page, "exit 3")
    await page.until(f"{NOTE}.includes('exit code 3')")
    # Another one ends with the page's place, and so does its command.
    await page.value("document.querySelector('form[data-do=terminal] button').click()")
    await page.until(f"{NOTE}.includes('leaves the terminal')")
    await _type(page, "echo again")
    await page.until(f"{SHOWN}.includes('again')")
    await _visit(page, "/tasks")
    await page.until("!document.querySelector('.term')")


async def _type(page: Page, text: str) -> None:
    await page.value("document.querySelector('.term-keys').focus()")
    await page.send("Input.insertText", text=text)
    await page.press("Enter", 13)


async def _picture(page: Page, name: str) -> None:
    folder = os.environ.get("ECS_TEST_SCREENSHOTS")
    if folder:
        await asyncio.sleep(1)
        picture = await page.picture()
        await asyncio.to_thread(Path(folder, f"console-{name}.png").write_bytes, picture)


async def _pictures(page: Page, task: str) -> None:
    folder = os.environ.get("ECS_TEST_SCREENSHOTS")
    if not folder:
        return
    for name, scheme, width, place in (
        ("overview", "light", 1280, ""),
        ("task", "dark", 1280, f"/tasks/{_id(task)}"),
        ("narrow", "light", 400, "/hosts"),
    ):
        await page.prefer(scheme)
        await page.resize(width, 860)
        await _visit(page, place)
        await _picture(page, name)
    await page.prefer("light")
    await page.resize(1280, 800)


async def _signs_out(page: Page) -> None:
    await page.value("document.querySelector('button[data-do=leave]').click()")
    await page.until("document.querySelector('#key-id')")
    await page.send("Page.reload")
    await page.until("document.readyState === 'complete' && document.querySelector('#key-id')")


async def _visit(page: Page, place: str) -> None:
    await page.value(f"location.hash = '#/c/default{place}'")


def _id(arn: str) -> str:
    return arn.rsplit("/", 1)[1]


_LINES = [f"GET /products/{i * 37 % 911} 200 {3 + i * 13 % 57} ms" for i in range(60)]
