"""A day's work on the page, asserted on pixels of the canvas and on the file that is exported."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_scenes import FILL, Disc, add_class, drop, picture, pixel, saved, settled, show, stroke, tint

pytestmark = [
    pytest.mark.slow,
    # pycocotools 2.0 hands NumPy 2 an object that does not know copies; its masks are right all the same.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

SCENES = {
    "plot_1.png": [Disc(180, 200, 62)],
    "plot_2.png": [Disc(420, 160, 55)],
    "plot_3.png": [Disc(200, 300, 58), Disc(470, 220, 60)],
    "plot_4.png": [Disc(330, 220, 66)],
}


def covered(page: Any, disc: Disc) -> bool:
    return tint(page, disc.x + disc.radius / 2, disc.y + 6) > FILL / 2


def exported(page: Any, folder: Path, shoot: Callable[[Any, str], None]) -> dict[str, bytes]:
    page.keyboard.press("Control+e")
    page.locator("select[name=format]").select_option("coco")
    page.locator(".losses .note").wait_for()
    shoot(page, "export")
    with page.expect_download() as download:
        page.locator("#download").click()
    path = folder / "export.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def union_of(coco: Any, name: str) -> np.ndarray:
    image = next(one for one in coco.dataset["images"] if one["file_name"].endswith(name))
    masks = [coco.annToMask(one).astype(bool) for one in coco.imgToAnns[image["id"]]]
    return np.logical_or.reduce(masks)


def test_scribble_match_correct_promote_export_reload_undo(
    open_page: Callable[..., Any],
    server: Any,
    shoot: Callable[[Any, str], None],
    tmp_path: Path,
) -> None:
    coco_api = pytest.importorskip("pycocotools.coco", reason="pycocotools judges the exported file.")
    server.warm()
    page = open_page(accept_downloads=True)
    shoot(page, "empty")
    drop(page, {name: picture(discs, seed) for seed, (name, discs) in enumerate(SCENES.items())})
    page.locator(".thumb").nth(3).wait_for()
    add_class(page, "tomato")

    show(page, "plot_1.png")
    [disc] = SCENES["plot_1.png"]
    plain = pixel(page, disc.x + disc.radius / 2, disc.y + 6)
    assert plain[0] > 2 * plain[1], "the picture itself is on the canvas"
    stroke(page, [(disc.x - 25, disc.y - 10), (disc.x, disc.y + 12), (disc.x + 20, disc.y - 8)])
    settled(page)
    assert covered(page, disc)
    assert tint(page, 560, 400) < FILL / 4, "the ground is no tomato"
    shoot(page, "reference")

    for name in ("plot_2.png", "plot_3.png", "plot_4.png"):
        show(page, name)
        assert all(covered(page, one) for one in SCENES[name]), f"{name} was matched"
        assert tint(page, 40, 40) < FILL / 4
    page.get_by_text("Found by matching").wait_for()
    page.keyboard.press("h")
    page.wait_for_timeout(400)
    shoot(page, "match-map")
    page.keyboard.press("h")

    show(page, "plot_3.png")
    left, right = SCENES["plot_3.png"]
    stroke(page, [(right.x - 25, right.y), (right.x + 25, right.y + 5)], button="right")
    settled(page)
    assert covered(page, left)
    assert not covered(page, right)
    page.keyboard.press("b")
    stroke(page, [(330, 60), (400, 60)])
    settled(page)
    assert tint(page, 365, 60) > FILL / 2
    page.keyboard.press("e")
    stroke(page, [(390, 60), (420, 60)])
    settled(page)
    assert tint(page, 395, 60) < FILL / 4
    assert tint(page, 345, 60) > FILL / 2
    page.keyboard.press("s")
    shoot(page, "corrected")

    page.keyboard.press("p")
    page.locator(".reference-file >> text=plot_3.png").wait_for()
    settled(page)

    for name in SCENES:
        show(page, name)
        page.keyboard.press("a")
        page.locator(f".thumb[data-status=accepted]:has-text('{name}')").wait_for()
    shoot(page, "accepted")
    files = exported(page, tmp_path, shoot)
    table = next(json.loads(data) for name, data in files.items() if name.endswith(".json"))
    (tmp_path / "coco.json").write_text(json.dumps(table))
    coco = coco_api.COCO(str(tmp_path / "coco.json"))
    assert {one["name"] for one in coco.dataset["categories"]} == {"tomato"}
    for name in ("plot_1.png", "plot_2.png", "plot_4.png"):
        [truth] = (one.mask for one in SCENES[name])
        mask = union_of(coco, name)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.8, name
    third = union_of(coco, "plot_3.png")
    assert third[300, 200]
    assert third[60, 345]
    assert not third[60, 410]
    assert not third[220, 470]

    before = page.locator("#ink").get_attribute("data-shown")
    page.reload()
    page.locator("body[data-ready=true]").wait_for()
    page.locator(".thumb[data-status=accepted]").nth(3).wait_for()
    assert page.locator("#ink").get_attribute("data-shown") == before
    page.keyboard.press("Control+z")
    page.locator(".thumb[data-status=open]").wait_for()
    assert page.locator(".thumb[data-status=accepted]").count() == 3
    page.keyboard.press("Control+Shift+z")
    page.locator(".thumb[data-status=accepted]").nth(3).wait_for()
    page.emulate_media(color_scheme="dark")
    shoot(page, "dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 820, "height": 1180})
    page.wait_for_timeout(300)
    shoot(page, "tablet")


def test_work_goes_on_when_the_server_comes_back(open_page: Callable[..., Any], server: Any) -> None:
    page = open_page()
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    add_class(page, "tomato")
    saved(page)
    server.kill()
    stroke(page, [(180, 200), (220, 210)])
    stroke(page, [(180, 180), (220, 180)])
    page.locator("#status-text >> text=Offline: 2 commands wait").wait_for()
    core = pixel(page, 200, 180)
    assert core.min() > 150, "the stroke shows while it waits"
    server.start()
    page.locator("#status-text >> text=Server restarted: reconnected").wait_for(timeout=60_000)
    saved(page)
    other = open_page()
    other.wait_for_timeout(500)
    assert pixel(other, 200, 180).min() > 150, "both strokes arrived, once"
    state = other.evaluate("fetch('/api/state').then(answer => answer.json())")
    assert len([key for key in state["docs"] if key.startswith("prompt/")]) == 2


def test_closing_in_the_middle_of_a_stroke_loses_that_stroke_alone(
    open_page: Callable[..., Any], server: Any
) -> None:
    page = open_page()
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    add_class(page, "tomato")
    stroke(page, [(180, 200), (220, 210)])
    saved(page)
    stroke(page, [(180, 180), (220, 180)], lift=False)
    page.close()
    other = open_page()
    state = other.evaluate("fetch('/api/state').then(answer => answer.json())")
    assert len([key for key in state["docs"] if key.startswith("prompt/")]) == 1


def test_two_pages_see_each_other(open_page: Callable[..., Any]) -> None:
    one, other = open_page(), open_page()
    drop(one, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    other.locator(".thumb").wait_for()
    add_class(other, "tomato")
    one.locator(".class-name >> text=tomato").wait_for()
    one.keyboard.press("Control+z")
    other.locator(".class-name").wait_for(state="detached")


def test_two_fingers_zoom_and_draw_nothing(open_page: Callable[..., Any]) -> None:
    page = open_page(has_touch=True)
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    add_class(page, "tomato")
    page.wait_for_timeout(300)
    before = float(page.locator("#ink").get_attribute("data-scale"))
    session = page.context.new_cdp_session(page)

    def touch(kind: str, apart: float) -> None:
        points = [{"x": 600 - apart, "y": 350, "id": 1}, {"x": 600 + apart, "y": 350, "id": 2}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})

    touch("touchStart", 40)
    for apart in (50, 65, 80):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    page.wait_for_timeout(200)
    after = float(page.locator("#ink").get_attribute("data-scale"))
    assert after / before == pytest.approx(2.0, rel=0.05)
    state = page.evaluate("fetch('/api/state').then(answer => answer.json())")
    assert not [key for key in state["docs"] if key.startswith("prompt/")]


def test_prompts_of_every_kind_are_drawn_and_removed(open_page: Callable[..., Any]) -> None:
    page = open_page()
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    add_class(page, "tomato")

    def prompts() -> list[dict[str, Any]]:
        saved(page)
        docs = page.evaluate("fetch('/api/state').then(answer => answer.json())")["docs"]
        there = [doc for key, doc in docs.items() if key.startswith("prompt/")]
        return [one["prompt"] for one in sorted(there, key=lambda one: one["order"])]

    stroke(page, [(180, 200), (220, 210)])
    page.keyboard.press("t")
    stroke(page, [(400, 300), (440, 300)])
    page.keyboard.press("d")
    stroke(page, [(500, 100)], button="right")
    page.keyboard.press("r")
    stroke(page, [(120, 120), (280, 290)])
    drawn = prompts()
    assert [one["kind"] for one in drawn] == ["scribble", "scribble", "point", "box"]
    assert [one.get("positive") for one in drawn] == [True, False, True, None]
    assert drawn[2]["xy"] == pytest.approx([500, 100], abs=1)
    assert [drawn[3][side] for side in ("x0", "y0", "x1", "y1")] == pytest.approx([120, 120, 280, 290], abs=1)

    page.keyboard.press("w")
    stroke(page, [(420, 300)])
    assert [one["kind"] for one in prompts()] == ["scribble", "point", "box"]
    page.keyboard.press("Control+z")
    page.wait_for_timeout(100)
    assert len(prompts()) == 4
    page.get_by_role("button", name="Clear").click()
    page.wait_for_timeout(100)
    assert prompts() == []


def test_the_width_of_a_tool_follows_the_keys_and_the_wheel(open_page: Callable[..., Any]) -> None:
    page = open_page()
    drop(page, {"plot.png": picture([Disc(200, 200, 60)], 1)})
    page.locator(".thumb").wait_for()
    page.keyboard.press("b")

    def width() -> int:
        page.wait_for_timeout(100)
        return int(page.locator(".width-text").inner_text().split()[0])

    first = width()
    page.keyboard.press("]")
    page.keyboard.press("]")
    wider = width()
    assert wider > first
    page.mouse.move(600, 400)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 300)
    page.keyboard.up("Shift")
    assert width() < wider
    scale = float(page.locator("#ink").get_attribute("data-scale"))
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    assert float(page.locator("#ink").get_attribute("data-scale")) > scale
