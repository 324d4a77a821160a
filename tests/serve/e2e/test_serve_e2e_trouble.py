"""What a page says and keeps when things go wrong: names, files, the disk, a busy or broken server."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from page_scenes import Disc, add_class, drop, picture, saved, stroke

pytestmark = pytest.mark.slow

DISC = Disc(200, 200, 60)
NAMES = [
    "<script>boom()</script>.png",
    "\"'><img src=x onerror=boom()>.png",
    "\N{WATERMELON}\N{FAMILY}&amp;%00%2e.png",
    "\u202egnp.exe\u05d0\u05d1.png",
    "x" * 196 + ".png",
]


def problem(status: int, detail: str) -> dict[str, Any]:
    body = {"type": "about:blank", "title": "x", "status": status, "detail": detail, "instance": "/"}
    return {"status": status, "content_type": "application/problem+json", "body": json.dumps(body)}


def state(page: Any) -> dict[str, Any]:
    return page.evaluate("fetch('/api/state').then(answer => answer.json())")


def first_answers(page: Any, pattern: str, answers: list[dict[str, Any]]) -> list[str]:
    """Has the first requests answered otherwise than by the server; gives the bodies of all requests."""
    sent: list[str] = []

    def answer(route: Any) -> None:
        sent.append(route.request.post_data or "")
        if len(sent) <= len(answers):
            route.fulfill(**answers[len(sent) - 1])
        else:
            route.continue_()

    page.route(pattern, answer)
    return sent


def test_names_are_text_and_nothing_else(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.evaluate("window.boom = () => { window.boomed = true; }")
    drop(page, {name: picture([DISC], number) for number, name in enumerate(NAMES)})
    page.locator("#upload-summary >> text=5 added").wait_for()
    assert sorted(page.locator(".thumb-name").all_inner_texts()) == sorted(NAMES)
    for name in NAMES:
        add_class(page, name)
        saved(page)
    assert page.locator(".class-name").all_inner_texts() == NAMES
    stroke(page, [(190, 200), (210, 200)])
    saved(page)
    for key in ("?", "Control+e"):
        page.keyboard.press(key)
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    page.locator(".class-row button[aria-label^='Edit class']").first.click()
    assert page.get_by_role("dialog").locator("input[type=text]").first.input_value() == NAMES[0]
    page.keyboard.press("Escape")
    page.reload()
    page.locator("body[data-ready=true]").wait_for()
    assert page.locator(".class-name").all_inner_texts() == NAMES
    assert not page.evaluate("window.boomed") and page.locator("img[src=x]").count() == 0
    wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] <= wide[1], "long names do not push the page apart"


def test_commands_wait_for_room_and_for_their_turn(open_page: Callable[..., Any]) -> None:
    page = open_page()
    answers = [
        problem(507, "The disk of the project is full; make room and try again."),
        problem(429, "Too many requests; slow down."),
        problem(503, "Not now."),
    ]
    sent = first_answers(page, "**/api/commands", answers)
    page.keyboard.press("c")
    page.keyboard.type("tomato")
    page.keyboard.press("Enter")
    page.locator("#status-text >> text=The disk is full: 1 command waits").wait_for()
    page.locator("#status-text >> text=Server is busy: 1 command waits").wait_for()
    page.locator(".class-name >> text=tomato").wait_for()
    saved(page)
    assert len(sent) == 4 and len(set(sent)) == 1, "one command, under one id"


def test_a_command_that_breaks_the_server_does_not_hold_up_the_others(open_page: Callable[..., Any]) -> None:
    page = open_page()
    sent = first_answers(page, "**/api/commands", [problem(500, "The server made a mistake.")] * 5)
    for name in ("tomato", "pepper"):
        page.keyboard.press("c")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
    page.locator("#toast >> text=The server made a mistake.").wait_for(timeout=60_000)
    page.locator(".class-name >> text=pepper").wait_for()
    saved(page)
    assert len(sent) == 6 and page.locator(".class-name").all_inner_texts() == ["pepper"]


def test_files_that_cannot_be_read_do_not_hold_up_the_others(
    open_page: Callable[..., Any], tmp_path: Any
) -> None:
    page = open_page()
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        (tmp_path / name).write_bytes(picture([DISC], number))
    # The first is on its way while the second is taken away.
    first_answers(page, "**/api/images?*", [problem(503, "Not now.")])
    page.locator("#choose-files").set_input_files([tmp_path / name for name in ("a.png", "b.png", "c.png")])
    (tmp_path / "b.png").unlink()
    page.locator("#upload-summary >> text=2 added, 1 refused").wait_for(timeout=60_000)
    assert "cannot be read" in page.locator("#upload-list li[data-state=refused]").inner_text()
    assert page.locator(".thumb-name").all_inner_texts() == ["a.png", "c.png"]


def test_an_archive_among_pictures_is_imported_beside_them(open_page: Callable[..., Any]) -> None:
    page = open_page()
    file = io.BytesIO()
    coco = {
        "images": [{"id": 7, "file_name": "a.png", "width": 640, "height": 440}],
        "categories": [{"id": 3, "name": "tomato", "supercategory": "plant"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 3,
                "iscrowd": 0,
                "bbox": [100, 100, 50, 50],
                "area": 2500,
                "segmentation": [[100, 100, 150, 100, 150, 150, 100, 150]],
            }
        ],
        "info": {"description": "another tool"},
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("annotations/instances_default.json", json.dumps(coco))
    drop(page, {"a.png": picture([DISC], 1), "masks.zip": file.getvalue()})
    page.get_by_role("dialog", name="Import masks").wait_for()
    page.locator("#upload-summary >> text=1 added").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Import").click()
    page.locator(".losses >> text=1 masks").wait_for()
    saved(page)
    docs = state(page)["docs"]
    assert docs["layer/i1/c1"]["painted"] and docs["class/c1"]["name"] == "tomato"


def test_a_picture_whose_file_is_gone_is_told(open_page: Callable[..., Any], server: Any) -> None:
    page = open_page()
    drop(page, {"a.png": picture([DISC], 1), "b.png": picture([DISC], 2)})
    page.locator("#upload-summary >> text=2 added").wait_for()
    digest = state(page)["docs"]["image/i2"]["digest"]
    (server.project / "images" / digest[:2] / digest).unlink()
    other = open_page()
    other.locator(".thumb:has-text('b.png')").click()
    other.locator("#toast >> text=b.png: The file").wait_for()
    text = other.locator("#toast").inner_text()
    assert "missing" in text and str(server.project) not in text
    assert other.locator(".thumb:has-text('b.png') img.missing").count() == 1
