"""Pictures with discs at known places, and a hand that works on the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 640, 440
RED = (206, 52, 40)
FILL = 0.42
"""Share of the class's colour in the tint of a mask."""


@dataclass(frozen=True)
class Disc:
    """A disc of a picture."""

    x: float
    y: float
    radius: float
    colour: tuple[int, int, int] = RED

    @property
    def depth(self) -> np.ndarray:
        """Distance from the centre over the radius, at every pixel."""
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        return np.hypot(x - self.x, y - self.y) / self.radius

    @property
    def mask(self) -> np.ndarray:
        return self.depth < 1


def picture(discs: Sequence[Disc], seed: int) -> bytes:
    """A PNG with discs on a coarse green texture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(50, 150, (HEIGHT // 20, WIDTH // 20)).astype(np.uint8))
    ground = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(float)
    ground = ground[..., None] * np.array([0.55, 0.95, 0.5]) + rng.normal(0, 5, (HEIGHT, WIDTH, 1))
    for disc in discs:
        shade = 1.1 - 0.35 * disc.depth[disc.mask][:, None] ** 2
        ground[disc.mask] = np.array(disc.colour) * shade + rng.normal(0, 6, (int(disc.mask.sum()), 1))
    file = io.BytesIO()
    Image.fromarray(ground.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def drop(page: Any, files: dict[str, bytes]) -> None:
    """Drops files on the page, as from a file manager."""
    listed = [[name, base64.b64encode(data).decode()] for name, data in files.items()]
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, text] of files) {
                const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
            }
            return transfer;
        }""",
        listed,
    )
    page.dispatch_event("#stage", "dragenter", {"dataTransfer": transfer})
    page.dispatch_event("#stage", "drop", {"dataTransfer": transfer})


def show(page: Any, name: str) -> None:
    """Puts a picture on view."""
    page.locator(f".thumb:has-text('{name}')").click()
    page.locator(f"#picture-name >> text={name}").wait_for()
    page.wait_for_timeout(300)


def add_class(page: Any, name: str) -> None:
    page.keyboard.press("c")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.locator(f"[aria-checked=true] >> text={name}").wait_for()


def on_screen(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture is on the page."""
    at = page.evaluate(
        """([x, y]) => {
            const ink = document.getElementById("ink");
            const { scale, x: left, y: top } = ink.dataset;
            const box = ink.getBoundingClientRect();
            return [box.left + x * scale + Number(left), box.top + y * scale + Number(top)];
        }""",
        [x, y],
    )
    return at[0], at[1]


def stroke(
    page: Any, points: Sequence[tuple[float, float]], *, button: str = "left", lift: bool = True
) -> None:
    """Draws a stroke through points of the picture."""
    page.mouse.move(*on_screen(page, *points[0]))
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*on_screen(page, *point), steps=6)
    if lift:
        page.mouse.up(button=button)


def pixel(page: Any, x: float, y: float) -> np.ndarray:
    """Colour of the canvas at a point of the picture, ``float [3]``."""
    rgba = page.evaluate(
        """([x, y]) => {
            const { scale, x: left, y: top } = document.getElementById("ink").dataset;
            const ratio = window.devicePixelRatio;
            const at = [x * scale + Number(left), y * scale + Number(top)].map(at => Math.round(at * ratio));
            return [...document.getElementById("canvas").getContext("2d").getImageData(...at, 1, 1).data];
        }""",
        [x, y],
    )
    return np.array(rgba[:3], float)


def tint(page: Any, x: float, y: float) -> float:
    """How much of the colour of the class in hand lies over the picture at a point, in ``[0, 1]``."""
    colour = page.evaluate(
        """() => getComputedStyle(document.querySelector("[aria-checked=true] .swatch")).backgroundColor"""
    )
    wanted = np.array([float(part) for part in colour[4:-1].split(",")])
    page.mouse.move(5, 5)
    with_masks = pixel(page, x, y)
    page.keyboard.press("m")
    page.wait_for_timeout(60)
    plain = pixel(page, x, y)
    page.keyboard.press("m")
    page.wait_for_timeout(60)
    way = wanted - plain
    return float(np.dot(with_masks - plain, way) / np.dot(way, way))


def saved(page: Any) -> None:
    """Waits until no command is on its way."""
    page.locator("#status[data-waiting='0']").wait_for(timeout=60_000)


def settled(page: Any) -> None:
    """Waits until all is saved and nothing is being matched."""
    saved(page)
    page.locator(".headline.waiting").wait_for(state="detached", timeout=60_000)
    page.wait_for_timeout(400)
    page.locator("body[data-job=idle]").wait_for(timeout=120_000)
    page.wait_for_timeout(200)
