"""``softmatch demo``: the main job on two photographs that scikit-image ships."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro import conf

from softmatch_jax._checks import InputError


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Scribbles on one object of a photograph and finds the others; no files are needed.

    Attributes:
        output: Folder for the results; made if it does not exist.
        overwrite: Replace the results of an earlier demo.
        seed: Seed of all randomness.
    """

    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="FOLDER")] = Path("demo-out")
    overwrite: Annotated[bool, conf.arg(help_behavior_hint="")] = False
    seed: int = 0


@dataclass(frozen=True)
class _Scene:
    """A photograph, by its name in ``skimage.data``, and the scribbles on it."""

    photograph: str
    class_name: str
    strokes: tuple[tuple[tuple[float, float], ...], ...]
    background: tuple[tuple[tuple[float, float], ...], ...]


_SCENES = {
    "coins": _Scene(
        photograph="coins",
        class_name="coin",
        strokes=(((140, 50), (155, 62), (168, 50)),),
        background=(((15, 90), (380, 95)), ((15, 10), (250, 15))),
    ),
    "tissue": _Scene(
        photograph="immunohistochemistry",
        class_name="gland",
        strokes=(((60, 60), (120, 90), (180, 150)),),
        background=(((190, 300), (180, 400), (190, 480)),),
    ),
}


def run_demo(config: DemoConfig) -> int:
    """Writes each photograph with its scribbles, and segments it.

    Returns:
        The first status of :func:`softmatch_jax.cli.run.run_segment` that is not zero, or zero.

    Raises:
        InputError: The output folder holds results, or cannot be written.
    """
    from softmatch_jax.cli.config import ReferenceConfig, SegmentConfig
    from softmatch_jax.cli.layout import RESULTS, check_output, make_folders
    from softmatch_jax.cli.run import run_segment

    for name in _SCENES:
        folder = config.output / name
        if (folder / RESULTS).exists() and not config.overwrite:
            raise InputError(
                f"The folder {folder} already holds a demo; expected --overwrite to replace it, or another "
                "folder (-o)."
            )
        check_output(folder, (), (), resume=False, overwrite=config.overwrite)
    statuses = []
    for name, scene in _SCENES.items():
        folder = config.output / name
        make_folders(folder)
        picture, scribbles = _write_scene(scene, folder)
        print(f"{name}: one {scene.class_name} scribbled on, {scribbles}")
        sys.stdout.flush()
        settings = SegmentConfig(
            targets=(str(picture),), output=folder, overwrite=config.overwrite, seed=config.seed
        )
        statuses.append(run_segment(settings, [ReferenceConfig(reference=picture, scribbles=scribbles)]))
    print(
        "Look at " + " and ".join(str(config.output / name / "contact_sheet.png") for name in _SCENES) + "."
    )
    return next(filter(None, statuses), 0)


def _write_scene(scene: _Scene, folder: Path) -> tuple[Path, Path]:
    """Writes the photograph and the scribbles, and returns their paths."""
    import numpy as np
    import skimage.data

    from softmatch_jax.data import write_annotations
    from softmatch_jax.imaging import write_image
    from softmatch_jax.prompting import Polyline, Scribbles

    image = getattr(skimage.data, scene.photograph)()
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    strokes = [Polyline(points, 10) for points in scene.strokes]
    strokes += [Polyline(points, 4, False) for points in scene.background]
    picture, scribbles = folder / f"{scene.photograph}.png", folder / f"{scene.photograph}.json"
    write_image(picture, image)
    write_annotations(
        scribbles, {scene.class_name: Scribbles(tuple(strokes))}, image.shape[:2], image=picture.name
    )
    return picture, scribbles
