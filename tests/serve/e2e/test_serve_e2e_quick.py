"""The page comes up, and does what needs no model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guide_pages import GUIDE, LARGEST, keys_in_guide, keys_table
from page_scenes import Disc, add_class, drop, picture, saved

PAGE = Path(__file__).parents[3] / "softmatch_jax" / "serve" / "page"


ORDERS = """async () => {
    const { moved } = await import("/page/ordering.js");
    const number = one => Number(one.id.slice(1));
    const order = (a, b) => a.order - b.order || number(a) - number(b);
    let seed = 1;
    const below = most => (seed = (seed * 48271) % 2147483647) % most;
    const wrong = [];
    for (let trial = 0; trial < 200; trial += 1) {
        const count = 1 + below(12);
        const list = Array.from({ length: count }, (_, i) => ({ id: `c${i + 1}`, order: i + 1 }));
        for (let step = 0; step < 30; step += 1) {
            const [at, by] = [below(count), below(2) ? 1 : -1];
            const wanted = list.map(one => one.id);
            if (wanted[at + by]) wanted.splice(at + by, 0, ...wanted.splice(at, 1));
            for (const change of moved(list, list[at].id, by))
                list.find(one => one.id === change.id).order = change.order;
            if (list.sort(order).map(one => one.id).join() !== wanted.join()) wrong.push(wanted);
        }
    }
    return wrong;
}"""
"""Moves classes about, and gives the orders that come out wrong."""


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
    page.locator("#picture-name >> text=b.png").wait_for()  # rejecting goes on to the next picture
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
    page.get_by_role("button", name="Brush: add to the mask", pressed=True).wait_for()


@pytest.mark.slow
def test_project_and_classes_are_edited_and_the_record_says_so(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.get_by_role("button", name="Settings of the project").click()
    page.get_by_label("Name", exact=True).fill("Orchard")
    page.get_by_label("Seed").fill("7")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for(state="detached")
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    assert page.evaluate(ORDERS) == []
    for name in ("tomato", "leaf", "stone"):
        add_class(page, name)
    assert page.locator(".phrase").is_hidden(), "no model here knows words"

    def classes() -> list[str]:
        saved(page)
        page.wait_for_timeout(150)
        return page.locator(".class-name").all_inner_texts()

    page.keyboard.press("Alt+ArrowUp")
    assert classes() == ["tomato", "stone", "leaf"]
    page.get_by_role("button", name="Edit class leaf").click()
    page.get_by_role("button", name="Move up").click()
    page.get_by_role("button", name="Move up").click()
    page.keyboard.press("Escape")
    assert classes() == ["leaf", "tomato", "stone"]
    page.keyboard.press("1")
    page.locator("[aria-checked=true] >> text=leaf").wait_for()
    page.keyboard.press("Control+z")
    assert classes() == ["tomato", "leaf", "stone"]
    page.keyboard.press("Control+z")
    assert classes() == ["tomato", "stone", "leaf"]

    page.keyboard.press("y")
    page.locator(".history-row").nth(8).wait_for()
    assert page.locator(".history-words").all_inner_texts() == [
        *["Class moved"] * 3,
        *[f'New class "{name}"' for name in ("stone", "leaf", "tomato")],
        "Picture added",
        "Project changed: name Orchard, seed 7",
        "Project made",
    ]
    undone = page.locator(".history-row[data-undone=true]")
    assert undone.count() == 2
    assert "undone" in undone.nth(0).inner_text()
    page.locator("button.history-place >> text=plot.png").click()
    page.get_by_role("dialog").wait_for(state="detached")
    page.keyboard.press("Control+Shift+z")
    assert classes() == ["tomato", "leaf", "stone"]
    assert page.locator("#project-name").input_value() == "Orchard"
    assert keys_table(page) == keys_in_guide(), "the guide has the keys of the page"


def test_guide_has_its_pictures() -> None:
    named = re.findall(r"\]\((guide/[^)]+)\)", GUIDE.read_text())
    assert len(named) >= 6
    there = {file.relative_to(GUIDE.parent).as_posix(): file for file in (GUIDE.parent / "guide").iterdir()}
    assert set(named) == set(there)
    assert all(file.stat().st_size <= LARGEST for file in there.values())


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


PLACES = """() => Object.fromEntries([
    ["stage", "#stage"], ["panel", ".panel"], ["gallery", ".gallery"],
    ["tools", "#tools"], ["options", "#options"], ["layers", "#layers"], ["zoom", "#zoom"],
    ["name", "#picture-name"], ["remove", "#remove"], ["reject", "#reject"], ["next", "#next"],
    ["accept", "#accept"], ["history", "#history"], ["status", "#status"], ["import", "#import"],
    ["export", "#export"], ["toggle", "#panel-toggle"],
    ["first class", ".class-row:first-child"], ["new class", "#class-form"], ["result", "#result"],
].map(([name, selector]) => {
    const { left, top, right, bottom } = document.querySelector(selector).getBoundingClientRect();
    return [name, [left, top, right, bottom]];
}))"""
"""Where the parts of the page are."""


def apart(one: list[float], other: list[float]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.slow
def test_long_names_and_many_classes_leave_everything_in_its_place(open_page: Callable[..., Any]) -> None:
    page = open_page()
    drop(page, {f"{'a name as microscopes give them ' * 5}.png": picture([Disc(200, 200, 60)], 1)})
    for name in [
        "a class that needs more room than there is in any panel",
        *(f"class {n}" for n in range(2, 15)),
    ]:
        add_class(page, name)
    saved(page)
    for size, touch in (((1280, 720), False), ((1024, 768), True), ((820, 1180), True)):
        other = open_page(viewport=dict(zip(("width", "height"), size, strict=True)), has_touch=touch)
        other.locator(".class-row >> text=class 14").wait_for()
        places = other.evaluate(PLACES)
        for name, (left, top, right, bottom) in places.items():
            assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1], (name, size)
        floating = ("tools", "options", "layers", "zoom")
        footer = ("name", "remove", "reject", "next", "accept")
        header = ("history", "status", "import", "export", "toggle")
        for group in (("stage", "panel", "gallery"), floating, footer, header):
            for one, another in itertools.combinations(group, 2):
                assert apart(places[one], places[another]), (one, another, size)
        left, top, right, bottom = places["stage"]
        for name in (*floating, *footer):
            assert left <= places[name][0] and places[name][2] <= right, (name, size)
        assert places["name"][2] - places["name"][0] > 60
        row = places["first class"]
        assert places["panel"][0] <= row[0] and row[2] <= places["panel"][2]
        assert not other.evaluate(
            "() => { const l = document.querySelector('.class-list'); return l.scrollWidth > l.clientWidth }"
        )
        other.keyboard.press("9")
        other.wait_for_function(
            "() => { const row = document.querySelector('.class-row:has([aria-checked=true])'),"
            " list = row.parentElement.getBoundingClientRect(), own = row.getBoundingClientRect();"
            " return row.innerText.includes('class 9')"
            " && list.top < own.top + 1 && own.bottom < list.bottom + 1 }"
        )
