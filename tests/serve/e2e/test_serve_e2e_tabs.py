"""Many tabs of one browser, and tabs that are closed before all is sent."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from conftest import TOKEN
from page_scenes import Disc, add_class, drop, picture, pixel, saved, stroke

pytestmark = pytest.mark.slow


def another(page: Any, server: Any) -> Any:
    """A further tab beside a page."""
    tab = page.context.new_page()
    tab.goto(server.url)
    tab.locator("body[data-ready=true]").wait_for()
    return tab


def streams(server: Any) -> int:
    """Event streams that the server says are open."""
    ask = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(ask, timeout=10) as answer:
        found = re.search(r"^softmatch_streams ([0-9.]+)", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def settles_at_one(server: Any) -> bool:
    end = time.monotonic() + 30
    while streams(server) != 1:
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def prompts(page: Any) -> list[str]:
    docs = page.evaluate("fetch('/api/state').then(answer => answer.json())")["docs"]
    return [key for key in docs if key.startswith("prompt/")]


def test_eight_tabs_share_one_stream_and_survive_their_leader(
    open_page: Callable[..., Any], server: Any
) -> None:
    first = open_page()
    tabs = [first, *(another(first, server) for _ in range(7))]
    assert settles_at_one(server)
    drop(tabs[7], {"plot.png": picture([Disc(200, 200, 60)], 1)})
    for tab in tabs:
        tab.locator(".thumb").wait_for()
    add_class(first, "tomato")
    for tab in tabs:
        tab.locator(".class-name >> text=tomato").wait_for()
        tab.locator("#status-text >> text=All saved").or_(tab.get_by_text("Warming up")).wait_for()

    first.close()
    rest = tabs[1:]
    add_class(rest[6], "leaf")
    for tab in rest:
        tab.locator(".class-name >> text=leaf").wait_for()
    assert settles_at_one(server)

    server.kill()
    for tab in rest:
        tab.locator("#status[data-state=offline]").wait_for()
    server.start()
    for tab in rest:
        tab.locator("#status:not([data-state=offline])").wait_for(timeout=60_000)
    add_class(rest[0], "stone")
    for tab in rest:
        tab.locator(".class-name >> text=stone").wait_for(timeout=60_000)
    assert settles_at_one(server)


def test_a_tab_that_was_put_to_sleep_loses_the_lead(open_page: Callable[..., Any], server: Any) -> None:
    first = open_page()
    session = first.context.new_cdp_session(first)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    second = another(first, server)
    drop(second, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    second.locator(".thumb").wait_for()
    second.locator("#status:not([data-state=busy])").or_(second.get_by_text("Warming up")).wait_for()
    third = another(first, server)
    add_class(third, "tomato")
    second.locator(".class-name >> text=tomato").wait_for()
    session.send("Page.setWebLifecycleState", {"state": "active"})
    first.locator(".class-name >> text=tomato").wait_for()
    assert settles_at_one(server)


def test_pages_without_locks_follow_each_for_itself(open_page: Callable[..., Any], server: Any) -> None:
    page = open_page()
    hide = "Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined })"
    page.context.add_init_script(hide)
    page.reload()
    page.locator("body[data-ready=true]").wait_for()
    other = another(page, server)
    add_class(page, "tomato")
    other.locator(".class-name >> text=tomato").wait_for()
    assert streams(server) == 2


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no-locks"])
def test_what_a_closed_page_had_not_sent_is_sent_by_the_next(
    open_page: Callable[..., Any], server: Any, locks: bool
) -> None:
    page = open_page()
    if not locks:
        page.context.add_init_script(
            "Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined })"
        )
        page.reload()
        page.locator("body[data-ready=true]").wait_for()
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    add_class(page, "tomato")
    saved(page)
    page.wait_for_timeout(300)
    context = page.context
    server.kill()
    stroke(page, [(180, 200), (220, 210)])
    stroke(page, [(180, 180), (220, 180)])
    page.locator("#status-text >> text=Offline: 2 commands wait").wait_for()
    # Asks before it closes only where something would be lost.
    page.close(run_before_unload=True)
    server.start()

    nextpage = context.new_page()
    nextpage.goto(server.url)
    nextpage.get_by_text("Sent 2 commands that a closed page had left.").wait_for()
    saved(nextpage)
    assert len(prompts(nextpage)) == 2
    nextpage.wait_for_timeout(300)
    assert pixel(nextpage, 200, 180).min() > 150, "they are drawn"
    assert nextpage.evaluate("Object.keys(localStorage).filter(key => key.includes('unsent'))") == []
    nextpage.reload()
    nextpage.locator("body[data-ready=true]").wait_for()
    nextpage.wait_for_timeout(500)
    assert len(prompts(nextpage)) == 2, "and not sent again"


def test_a_living_page_keeps_its_unsent_commands_to_itself(
    open_page: Callable[..., Any], server: Any
) -> None:
    page = open_page()
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    add_class(page, "tomato")
    saved(page)
    page.wait_for_timeout(300)
    # Its commands hang while all else is answered.
    page.route("**/api/commands", lambda route: None)
    stroke(page, [(180, 200), (220, 210)])
    page.locator("#status[data-waiting='1']").wait_for()
    other = another(page, server)
    other.wait_for_timeout(800)
    assert prompts(other) == []
    kept = other.evaluate("Object.keys(localStorage).filter(key => key.includes('unsent')).length")
    assert kept == 1
    page.close()
    third = another(other, server)
    third.get_by_text("Sent one command that a closed page had left.").wait_for()
    saved(third)
    assert len(prompts(third)) == 1
