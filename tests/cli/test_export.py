"""`softmatch export` on a project on disk."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.export import ExportConfig, run_export
from softmatch_jax.data.formats import FORMATS
from softmatch_jax.serve.project.commands import AddClass
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.store import Store


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An accepted picture and an open one, each with one object."""
    folder = tmp_path / "project"
    store = Store.open(folder)
    store.run(AddClass(name="cat"), id="class")
    labels = np.zeros((8, 9), np.uint16)
    labels[2:5, 3:7] = 1
    for number, accept in enumerate((True, False), start=1):
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (9, 8), (number, 0, 0)).save(buffer, "PNG")
        with Pictures(folder).incoming() as incoming:
            incoming.write(buffer.getvalue())
            store.add_image(f"{number}.png", incoming.finish(), id=f"image {number}")
        store.import_masks(f"i{number}", {"c1": store.put_raster(labels)}, id=f"mask {number}", accept=accept)
    store.close()
    return folder


def annotations(text: str | bytes) -> list[float]:
    return [entry["area"] for entry in json.loads(text)["annotations"]]


def test_a_folder_and_a_zip_file(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = "annotations/instances_default.json"
    assert run_export([str(project), "-o", str(tmp_path / "out")]) == 0
    assert annotations((tmp_path / "out" / place).read_text()) == [12]
    assert (tmp_path / "out/images/1.png").is_file() and not (tmp_path / "out/images/2.png").exists()
    said = capsys.readouterr().out
    assert "1 pictures with 1 objects" in said and "note: 1 pictures are not accepted" in said
    words = [str(project), "--which", "shown", "--no-images", "--polygons", "-o", str(tmp_path / "out.zip")]
    assert run_export(words) == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        assert file.namelist() == [place]
        assert annotations(file.read(place)) == [12, 12]
        assert isinstance(json.loads(file.read(place))["annotations"][0]["segmentation"], list)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.zip", "project"]


def test_all_formats_can_be_named(project: Path, tmp_path: Path) -> None:
    assert set(FORMATS) == set(get_args(get_type_hints(ExportConfig)["format"]))
    for name in FORMATS:
        assert run_export([str(project), "--format", name, "-o", str(tmp_path / name)]) == 0
        assert any((tmp_path / name).iterdir())


def test_nothing_is_overwritten_unless_asked_for(project: Path, tmp_path: Path) -> None:
    for output in (tmp_path / "out", tmp_path / "out.zip"):
        words = [str(project), "-o", str(output)]
        run_export(words)
        with pytest.raises(InputError, match="--overwrite"):
            run_export(words)
        assert run_export([*words, "--overwrite"]) == 0


def test_what_cannot_be_exported(project: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(InputError, match="not a folder"):
        run_export([str(tmp_path / "missing"), "-o", out])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no project"):
        run_export([str(tmp_path / "empty"), "-o", out])
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(InputError, match="lies in the project's folder"):
        run_export([str(project), "-o", str(project / "images/out")])
    with pytest.raises(InputError, match="cannot be written"):
        run_export([str(project), "-o", str(tmp_path / "no/such/place.zip")])
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        run_export([str(project), "-o", str(tmp_path / "file")])
    Store.open(tmp_path / "new").close()
    with pytest.raises(InputError, match="no accepted pictures"):
        run_export([str(tmp_path / "new"), "-o", out])
    assert not (tmp_path / "out").exists()


def test_a_failed_zip_file_leaves_nothing(project: Path, tmp_path: Path) -> None:
    for path in (project / "images").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(InputError, match="missing"):
        run_export([str(project), "-o", str(tmp_path / "out.zip")])
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_export(["--help"])
    said = capsys.readouterr().out
    assert "softmatch export" in said and "--no-images" in said and "label_studio" in said


def test_a_project_that_is_being_written_is_exported(project: Path, tmp_path: Path) -> None:
    store = Store.open(project)
    assert run_export([str(project), "-o", str(tmp_path / "out")]) == 0
    store.close()
