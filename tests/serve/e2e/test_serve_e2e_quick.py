"""The page comes up, and does what needs no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from page_scenes import Disc, add_class, drop, picture

PAGE = Path(__file__).parents[3] / "softmatch_jax" / "serve" / "page"


def test_page_opens_takes_pictures_and_undoes(open_page: Callable[..., Any], server: Any) -> None:
    page = open_page()
    assert "token" not in page.url
    page.get_by_text("Drop pictures or a folder here").wait_for()

    first, second = picture([Disc(200, 200, 60)], 1), picture([Disc(300, 150, 50)], 2)
    drop(page, {"b.png": second, "a.png": first, "note.png": b"no picture", "again.png": first})
    page.locator("#upload-summary >> text=2 added, 1 already there, 1 refused").wait_for()
    names = page.locator(".thumb-name").all_inner_texts()
    assert names == ["a.png", "b.png"]
    refused = page.locator("#upload-list li[data-state=refused] .file-why")
    assert "not an image" in refused.inner_text()
    assert "a.png" in page.locator("#upload-list li[data-state=known] .file-why").inner_text()
    page.locator("#upload-close").click()

    add_class(page, "tomato")
    page.keyboard.press("x")
    page.locator(".thumb[data-status=rejected]").wait_for()
    assert page.locator("#picture-name").inner_text() == "b.png", "rejecting goes on to the next picture"
    page.keyboard.press("Control+z")
    page.locator(".thumb[data-status=rejected]").wait_for(state="detached")
    page.keyboard.press("Control+Shift+z")
    page.locator(".thumb[data-status=rejected]").wait_for()

    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas[tabindex], [role]")]
            .filter(one => one.role !== "alert")
            .filter(one => !(one.ariaLabel || one.innerText || one.labels?.length || one.title))
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard and pointer").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.keyboard.press("b")
    assert page.get_by_role("button", name="Brush: add to the mask").get_attribute("aria-pressed") == "true"


def test_page_is_light() -> None:
    assert sum(file.stat().st_size for file in PAGE.iterdir()) < 300_000


def test_page_has_nothing_that_its_policy_forbids() -> None:
    document = (PAGE / "index.html").read_text()
    assert "style=" not in document
    assert "javascript:" not in document
    assert document.count("<script") == document.count("<script src=") + document.count(
        '<script type="module" src='
    )
    assert "http" not in document, "everything comes from the server itself"


def test_modules_are_announced_and_small() -> None:
    document = (PAGE / "index.html").read_text()
    for module in PAGE.glob("*.js"):
        assert f'"/page/{module.name}"' in document, f"{module.name} would be found late"
        assert len(module.read_text().splitlines()) < 300
