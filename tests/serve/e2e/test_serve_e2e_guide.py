"""Makes the pictures of the guide, and checks that what they show is there.

``SOFTMATCH_SCREENSHOTS=docs/guide python -m pytest -m slow tests/serve/e2e/test_serve_e2e_guide.py`` makes
them and the table of keys anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from guide_pages import cut, keep, keys_in_guide, keys_table, write_keys
from page_scenes import FILL, add_class, drop, settled, show, stroke, tint

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image has the photographs.")
pytestmark = pytest.mark.slow

SCALE = 5
TRAYS = {
    f"tray_{i + 1}.png": (x0, y0, x1, y1)
    for i, (x0, y0, x1, y1) in enumerate(
        (x0, y0, x1, y1) for y0, y1 in [(8, 152), (150, 300)] for x0, x1 in [(0, 128), (126, 246), (240, 384)]
    )
}
COINS = {
    "tray_1.png": [(44, 54), (100, 56), (45, 125), (102, 126)],
    "tray_2.png": [(155, 51), (215, 47), (153, 126), (205, 126)],
    "tray_3.png": [(276, 52), (335, 43), (272, 118), (337, 125)],
    "tray_4.png": [(44, 197), (101, 195), (46, 259), (113, 265)],
    "tray_5.png": [(155, 197), (211, 192), (172, 262)],
    "tray_6.png": [(273, 194), (347, 187), (306, 264), (358, 268)],
}
TISSUE = {
    "section_1.png": (256, 0, 512, 256),
    "section_2.png": (0, 0, 256, 256),
    "section_3.png": (0, 256, 256, 512),
    "section_4.png": (256, 256, 512, 512),
}


def within(name: str, point: tuple[float, float]) -> tuple[float, float]:
    """A point of the photograph of coins in one of the pictures."""
    x0, y0, _, _ = TRAYS[name]
    return (point[0] - x0) * SCALE, (point[1] - y0) * SCALE


def found(page: Any, points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points of the picture on view have the colour of the class in hand."""
    return [tint(page, x, y) > FILL / 2 for x, y in points]


def test_guide_finds_coins(open_page: Callable[..., Any], server: Any) -> None:
    server.warm()
    page = open_page(accept_downloads=True)
    page.get_by_text("Drop pictures or a folder here").wait_for()
    page.locator("#project-name").fill("Coins")
    page.locator("#project-name").blur()
    keep(page, "start")

    drop(page, cut(np.asarray(skimage_data.coins()), TRAYS, SCALE))
    page.locator(".thumb").nth(len(TRAYS) - 1).wait_for()
    page.locator("#upload").wait_for(state="hidden")
    add_class(page, "coin")
    show(page, "tray_1.png")
    x, y = within("tray_1.png", COINS["tray_1.png"][0])
    stroke(page, [(x - 45, y - 20), (x - 10, y + 35), (x + 45, y + 5), (x + 10, y - 45)])
    stroke(page, [(x + 140, y + 190), (x + 150, y - 150)], button="right")
    settled(page)
    assert found(page, [(x, y)]) == [True]
    keep(page, "scribble")

    right = {}
    for name, coins in COINS.items():
        if name != "tray_1.png":
            show(page, name)
            right[name] = found(page, [within(name, coin) for coin in coins])
    assert np.mean(np.concatenate(list(right.values()))) > 0.8, right
    show(page, "tray_5.png")
    page.get_by_text("Found by matching").wait_for()
    keep(page, "found")
    page.keyboard.press("h")
    page.wait_for_timeout(400)
    keep(page, "match-map")
    page.keyboard.press("h")

    left, middle, low = (within("tray_5.png", coin) for coin in COINS["tray_5.png"])
    stroke(page, [(low[0] - 50, low[1] - 20), (low[0] + 50, low[1] + 20)], button="right")
    settled(page)
    assert found(page, [left, middle, low]) == [True, True, False], (
        "one coin is no longer meant, the others are"
    )
    page.keyboard.press("b")
    spot = (low[0] + 150, low[1] - 60)
    stroke(page, [spot, (spot[0] + 40, spot[1] + 30)])
    settled(page)
    assert found(page, [spot]) == [True]
    page.get_by_text("Painted").wait_for()
    keep(page, "correct")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("s")
    settled(page)
    assert found(page, [left, middle, low]) == right["tray_5.png"], "as it was found"

    page.keyboard.press("p")
    page.locator(".reference-file >> text=tray_5.png").wait_for()
    settled(page)
    for name in COINS:
        show(page, name)
        page.keyboard.press("a")
        page.locator(f".thumb[data-status=accepted]:has-text('{name}')").wait_for()
    page.keyboard.press("Control+z")
    page.locator(".thumb[data-status=open]").wait_for()
    page.keyboard.press("y")
    words = page.locator(".history-words")
    page.get_by_text("Made a reference").wait_for()
    assert sum("Accepted" in one for one in words.all_inner_texts()) == len(COINS)
    assert "Accepted" in page.locator(".history-row[data-undone=true]").first.inner_text()
    keep(page, "history")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+z")
    page.locator(".thumb[data-status=accepted]").nth(len(COINS) - 1).wait_for()
    page.keyboard.press("Control+e")
    page.locator("select[name=format]").select_option("indexed")
    page.locator(".losses .note").wait_for()
    page.get_by_text("6 of 6 pictures are accepted.").wait_for()
    keep(page, "export")
    page.keyboard.press("Escape")
    write_keys(keys_table(page))
    assert keys_table(page) == keys_in_guide()


def test_guide_tells_two_classes_of_tissue_apart(open_page: Callable[..., Any], server: Any) -> None:
    server.warm()
    page = open_page(color_scheme="dark")
    page.locator("#project-name").fill("Sections")
    page.locator("#project-name").blur()
    drop(page, cut(np.asarray(skimage_data.immunohistochemistry()), TISSUE, 3))
    page.locator(".thumb").nth(len(TISSUE) - 1).wait_for()
    page.locator("#upload").wait_for(state="hidden")
    show(page, "section_1.png")
    add_class(page, "gland")
    stroke(page, [(400, 150), (480, 330), (500, 600)])
    settled(page)
    add_class(page, "stroma")
    stroke(page, [(650, 200), (690, 420), (640, 640)])
    settled(page)
    show(page, "section_4.png")
    settled(page)
    keep(page, "classes")
    gland, stroma = [(110, 420), (250, 540), (190, 300)], [(480, 300), (432, 372), (447, 492), (702, 492)]
    for key, (own, other) in {"1": (gland, stroma), "2": (stroma, gland)}.items():
        page.keyboard.press(key)
        assert np.mean(found(page, own)) > np.mean(found(page, other)), f"class {key}"
