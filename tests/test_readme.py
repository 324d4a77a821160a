"""What the README shows runs as it stands."""

import contextlib
import json
import re
from pathlib import Path

import numpy as np

from softmatch_jax import matching
from softmatch_jax.data import read_annotations
from softmatch_jax.imaging import resize_image, write_image

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    """The code blocks of that language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


def disc_scene(centre: tuple[int, int], seed: int) -> np.ndarray:
    """A red disc of radius 50 on texture."""
    noise = np.random.default_rng(seed).integers(0, 90, (50, 50, 3), np.uint8)
    image = resize_image(noise, (220, 300))
    y, x = np.mgrid[:220, :300] + 0.5
    image[np.hypot(x - centre[0], y - centre[1]) < 50] = (200, 60, 40)
    return image


def test_python_example(tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "reference.png", disc_scene((175, 85), 0))
    write_image(tmp_path / "target.png", disc_scene((110, 120), 1))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), scope)
    (instance,) = scope["found"].instances
    assert np.allclose(instance.centroid, (110, 120), atol=3)
    assert capsys.readouterr().out.startswith("score ")


def test_matching_example(capsys):
    scope: dict[str, object] = {}
    (example,) = (block for block in blocks("python") if "matching.prepare" in block)
    exec(compile(example, "README.md", "exec"), scope)
    assert capsys.readouterr().out.startswith("(1369,) ")
    state, again, maps = scope["state"], scope["again"], scope["maps"]
    assert state.foreground.weight == again.foreground.weight == 300
    assert [one.log_probability.shape for one in maps] == [(2, 1369), (2, 1000)]
    assert np.isclose(np.exp(scope["votes"].log_probability).sum(), 1, atol=1e-5)


def test_every_method_is_in_the_table():
    table = README.read_text().partition("| `method=` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.MULTILINE)
    assert rows == list(matching.METHODS)


def test_scribble_file_example(tmp_path):
    (written,) = blocks("json")
    (tmp_path / "duck.json").write_text(written)
    annotations = read_annotations(tmp_path / "duck.json")
    assert list(annotations) == ["duck"]
    assert [stroke.positive for stroke in annotations["duck"].strokes] == [True, False]
    assert json.loads(written)["softmatch"] == 1


def test_commands_exist(capsys):
    from softmatch_jax.cli.main import main

    text = README.read_text()
    commands = ["segment", "evaluate", "data prepare coco20i", "train sam", "train prosam", "study noise"]
    commands += ["serve", "export"]
    for words in map(str.split, commands):
        with contextlib.suppress(SystemExit):
            main([*words, "--help"])
    shown = capsys.readouterr().out
    options = set(re.findall(r"[ `](--[a-z-]+)", text))
    assert len(options) > 10
    assert [option for option in sorted(options) if option not in shown] == []
