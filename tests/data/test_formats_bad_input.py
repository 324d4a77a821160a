"""Archives and files that cannot be trusted: each is refused in a sentence, and nothing is left behind."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from format_pictures import CLASSES, archive, hard, labelled, read_back, ring, zipped

from softmatch_jax._checks import InputError
from softmatch_jax.data.formats import (
    FORMATS,
    ExportOptions,
    FolderSource,
    Limits,
    ZipSink,
    ZipSource,
    format_named,
    open_source,
    recognise,
)


def source_of(data: bytes, limits: Limits | None = None) -> ZipSource:
    return ZipSource(io.BytesIO(data), "the archive", limits)


def refused(name: str, files: dict[str, bytes | str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_back(FORMATS[name], archive(files))


@pytest.mark.parametrize(
    "name",
    [
        "../x.txt",
        "/etc/x.txt",
        "a/../../x.txt",
        "C:/x.txt",
        "a\\..\\x.txt",
        "a//x.txt",
        "a/\x01.txt",
        "./x",
        "a" * 300,
    ],
)
def test_names_that_lead_out(name: str) -> None:
    with pytest.raises(InputError, match="expected a plain path inside it"):
        source_of(archive({name: "x"}))


def test_links_in_zip_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        info = zipfile.ZipInfo("link.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match=r"link\.txt, which is a link"):
        source_of(stream.getvalue())


def test_links_in_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "in/real.txt").write_text("y")
    os.symlink("real.txt", tmp_path / "in/inside.txt")
    assert FolderSource(tmp_path / "in").names == ("inside.txt", "real.txt")
    os.symlink(tmp_path / "secret.txt", tmp_path / "in/out.txt")
    with pytest.raises(InputError, match="leads out"):
        FolderSource(tmp_path / "in")
    (tmp_path / "in/out.txt").unlink()
    os.symlink(tmp_path, tmp_path / "in/folder")
    with pytest.raises(InputError, match="leads out"):
        FolderSource(tmp_path / "in")


def test_bombs() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("zeros.json", bytes(8 << 20))
    with pytest.raises(InputError, match="decompression bomb"):
        source_of(stream.getvalue())
    few = archive({f"{i}.txt": "abc" for i in range(5)})
    for limits, said in (
        (Limits(files=4), "more than 4 files"),
        (Limits(file_bytes=2), "more than 0 MiB"),
        (Limits(total_bytes=10), "unpacks to more than 0 MiB"),
    ):
        with pytest.raises(InputError, match=said):
            source_of(few, limits)


def test_a_file_that_is_longer_than_it_says() -> None:
    data = bytearray(archive({"x.txt": "a" * 5000}))
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 100)
    with pytest.raises(InputError, match="damaged"):
        source_of(bytes(data)).read("x.txt")


def test_damage_encryption_and_files_that_are_there_twice() -> None:
    with pytest.raises(InputError, match="not a zip file"):
        source_of(b"PK nothing")
    whole = bytearray(archive({"x.txt": "a" * 50}))
    whole[45] ^= 1
    with pytest.raises(InputError, match="damaged"):
        source_of(bytes(whole)).read("x.txt")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("x.txt", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("x.txt", "2")
    with pytest.raises(InputError, match="twice"):
        source_of(twice.getvalue())
    locked = bytearray(archive({"x.txt": "1"}))
    locked[locked.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match="encrypted"):
        source_of(bytes(locked))


def test_what_programs_leave_behind_is_passed_over_and_utf8_names_are_read() -> None:
    data = archive({"__MACOSX/x.txt": "1", ".DS_Store": "1", "a/.hidden": "1", "y.txt": "2"})
    assert source_of(data).names == ("y.txt",)
    flagged = archive({"Füße.txt": "3"})
    unflagged = bytearray(flagged)
    for signature, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        at = unflagged.index(signature) + place
        assert unflagged[at] == 8
        unflagged[at] = 0
    assert source_of(bytes(unflagged)).names == source_of(flagged).names == ("Füße.txt",)
    assert source_of(bytes(unflagged)).read("Füße.txt") == b"3"


def test_copies_of_files_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data, _ = zipped(FORMATS["yolo"], hard(tmp_path / "pictures"))
    read_back(FORMATS["yolo"], data)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_zip_file_that_failed_is_no_zip_file() -> None:
    stream = io.BytesIO()
    with pytest.raises(RuntimeError), ZipSink(stream) as sink:
        sink.write("x.txt", b"1")
        raise RuntimeError
    with pytest.raises(InputError, match="not a zip file"):
        source_of(stream.getvalue())


def test_unknown_formats_and_archives(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of coco"):
        format_named("voc")
    with pytest.raises(InputError, match="holds no known masks"):
        recognise(source_of(archive({"x.txt": "1"})))
    with pytest.raises(InputError, match="not a zip file"), open_source(tmp_path / "missing.zip"):
        pass


@pytest.mark.parametrize("name", FORMATS)
def test_archives_without_the_format(name: str) -> None:
    refused(name, {"x.md": "1"}, "expected")


IMAGE = {"id": 1, "file_name": "x.png", "height": 4, "width": 5}
CATEGORY = {"id": 7, "name": "cat"}
SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]


def coco(annotation: dict[str, Any] | None = None, **lists: Any) -> dict[str, bytes | str]:
    entry = {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [SQUARE], **(annotation or {})}
    document = {"images": [IMAGE], "annotations": [entry], "categories": [CATEGORY], **lists}
    return {"x.json": json.dumps(document)}


def test_coco_as_it_should_be() -> None:
    found = read_back(FORMATS["coco"], archive(coco()))
    (picture,) = found.pictures
    assert picture.masks["cat"].sum() == 4 and picture.entry is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (coco(images={}), "expected an object with the lists"),
        (coco(images=[IMAGE, IMAGE]), "two images of one id"),
        (coco(images=[IMAGE, {**IMAGE, "id": 2}]), "a second x.png"),
        (coco(images=[{**IMAGE, "file_name": "../x.png"}]), "plain path"),
        (coco(images=[{**IMAGE, "file_name": 3}]), "file_name = 3"),
        (coco(images=[{**IMAGE, "width": "5"}]), "whole numbers"),
        (coco(images=[{**IMAGE, "width": 10**6, "height": 10**6}]), "are read"),
        (coco(images=[{**IMAGE, "width": -1}]), "whole numbers"),
        (coco(images=["x"]), "id = None"),
        (coco(categories=[CATEGORY, CATEGORY]), "expected another"),
        (coco(categories=[CATEGORY, {"id": 8, "name": "cat"}]), "twice"),
        (coco(categories=[{"id": 7, "name": None}]), "name = None"),
        (coco({"category_id": 8}), "category 8, which is not in categories"),
        (coco({"category_id": True}), "category_id = True"),
        (coco({"image_id": 2}), "image 2, which is not in images"),
        (coco({"segmentation": [[1, 1, 3, 1, "3", 3]]}), "expected positions"),
        (coco({"segmentation": [[1, 1, 3, 1, 3, 3, 1]]}), "7 numbers"),
        (coco({"segmentation": [[90, 90, 99, 90, 99, 99]]}), "wholly outside"),
        (coco({"segmentation": [[1, 1, 3, 1, 1e300, 3]]}), "expected positions"),
        (coco({"segmentation": [[1, 1, 3, 1, float("nan"), 3]]}), "NaN"),
        (coco({"segmentation": "abc"}), "expected polygons or run lengths"),
        (coco({"segmentation": {"size": [5, 4], "counts": [20]}}), "run lengths of size"),
        (coco({"segmentation": {"size": [4, 5], "counts": [21]}}), "21 pixels"),
        (coco({"segmentation": {"size": [4, 5], "counts": [1.5]}}), "whole numbers"),
        (coco({"segmentation": {"size": [4, 5], "counts": "~~~"}}), "does not use"),
        (coco({"segmentation": {"size": [4, 5]}}), "no counts"),
        ({"x.json": '{"images": [], "annotations": ['}, "not valid JSON"),
        ({"x.json": b'{"images": "\xff"}'}, "UTF-8"),
        ({"x.json": '{"images": ' + "[" * 100_000}, "not valid JSON"),
        ({**coco(), "y.json": coco()["x.json"]}, "expected one JSON file"),
    ],
)
def test_bad_coco(files: dict[str, bytes | str], said: str) -> None:
    refused("coco", files, said)


def test_coco_that_is_not_all_masks() -> None:
    found = read_back(FORMATS["coco"], archive(coco({"segmentation": []})))
    assert next(iter(found.pictures)).masks == {} and "box is not a mask" in found.losses.sentences()[0]
    crowd = read_back(FORMATS["coco"], archive(coco({"iscrowd": 1})))
    assert next(iter(crowd.pictures)).masks == {} and "1 crowds" in crowd.losses.sentences()[0]
    short = read_back(FORMATS["coco"], archive(coco({"segmentation": [SQUARE, [1, 1]]})))
    assert (
        next(iter(short.pictures)).masks["cat"].sum() == 4 and "three points" in short.losses.sentences()[0]
    )


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_of_another_size(tmp_path: Path, name: str) -> None:
    if name == "yolo":
        pytest.skip("its labels say no size")
    data, _ = zipped(FORMATS[name], labelled(tmp_path, {"x.png": {CLASSES[0].name: ring()}}))
    other = io.BytesIO()
    PIL.Image.new("RGB", (7, 7)).save(other, "PNG")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        files: dict[str, bytes | str] = {n: file.read(n) for n in file.namelist()}
    place = "x.png" if name == "labelme" else "images/x.png"
    refused(name, {**files, place: other.getvalue()}, "it is 7x7")
    refused(name, {**files, place: b"no picture"}, f"the archive: {place} is not an image")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x 0 0 1 0 1 1", "number of a class"),
        ("9 0 0 1 0 1 1", "no name"),
        ("0 0 0 1 0 nan 1", "no fractions"),
        ("0 0 0 1 0 abc 1", "no number"),
        ("0 0 0 700 0 1 1", "no fractions"),
        ("0 0 0 1 0", "boxes are not masks"),
        ("0 0 0 1 0 1", "5 numbers"),
    ],
)
def test_bad_yolo(line: str, said: str) -> None:
    picture = io.BytesIO()
    PIL.Image.new("RGB", (5, 4)).save(picture, "PNG")
    files = {"data.yaml": "names:\n  0: cat\n", "images/x.png": picture.getvalue(), "labels/x.txt": line}
    refused("yolo", files, said)


def test_yolo_names() -> None:
    refused(
        "yolo",
        {"data.yaml": "names: [a, a]", "labels/x.txt": ""},
        "the archive: data.yaml has the name 'a' twice",
    )
    found = read_back(FORMATS["yolo"], archive({"labels/x.txt": "3 0 0 1 0 1 1"}), {"x.png": (4, 5)})
    assert [entry.name for entry in found.classes] == ["class 3"]


def shape(**fields: Any) -> dict[str, bytes | str]:
    entry = {"label": "cat", "points": [[1, 1], [3, 1], [3, 3]], "shape_type": "polygon", **fields}
    document = {"shapes": [entry], "imagePath": "x.png", "imageHeight": 4, "imageWidth": 5}
    return {"x.json": json.dumps(document)}


def forged_png() -> str:
    """A PNG that says it has 40000 by 40000 pixels."""
    head = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    chunks = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"0")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return base64.b64encode(chunks).decode()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"x.json": '{"shapes": 3}'}, "not a file of labelme"),
        ({"x.json": '{"shapes": [3], "imageHeight": 4, "imageWidth": 5}'}, "no label"),
        (shape(label=3), "no label"),
        (shape(points=[[1, 1], [float("inf"), 1], [3, 3]]), "Infinity"),
        (shape(points=[[1, 1], ["2", 1], [3, 3]]), "expected positions"),
        (shape(points="abc"), "no points"),
        (shape(group_id=[1]), "group_id"),
        (shape(shape_type="mask", points=[[1, 1], [2, 2]], mask="!!"), "no readable mask"),
        (shape(shape_type="mask", points=[[1, 1], [2, 2]], mask=forged_png()), "40000x40000"),
        ({"x.json": '{"shapes": [], "imagePath": "x.png"}'}, "whole numbers"),
        ({**shape(), "y.json": shape()["x.json"]}, "a second file"),
    ],
)
def test_bad_labelme(files: dict[str, bytes | str], said: str) -> None:
    refused("labelme", files, said)


def test_labelme_of_another_machine() -> None:
    document = json.loads(shape()["x.json"])
    for said in ("/home/u/x.png", "C:\\pictures\\x.png", "../../x.png"):
        document["imagePath"] = said
        (picture,) = read_back(FORMATS["labelme"], archive({"a/x.json": json.dumps(document)})).pictures
        assert picture.name == "a/x.png"
    lines = read_back(FORMATS["labelme"], archive(shape(shape_type="line", points=[[1, 1], [2, 2]])))
    assert next(iter(lines.pictures)).masks == {} and "lines or points" in lines.losses.sentences()[0]


def task(value: dict[str, Any] | None = None, **fields: Any) -> dict[str, bytes | str]:
    polygon = {"points": [[20, 25], [60, 25], [60, 75]], "polygonlabels": ["cat"], **(value or {})}
    result = {"type": "polygonlabels", "original_width": 5, "original_height": 4, "value": polygon, **fields}
    return {
        "tasks.json": json.dumps(
            [{"data": {"image": "/data/upload/1/x.png"}, "annotations": [{"result": [result]}]}]
        )
    }


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tasks.json": "{}"}, "expected a list of tasks"),
        ({"tasks.json": '[{"annotations": 3, "data": {}}]'}, "no list of objects"),
        ({"tasks.json": '[{"annotations": [{}], "data": {}}]'}, "no list result"),
        ({"tasks.json": '[{"annotations": [], "data": {}}]'}, "no picture"),
        (task({"polygonlabels": []}), "expected a list of names"),
        (task({"points": [[1]]}), "per cent"),
        (task({"points": [[1, 1], [True, 1], [3, 3]]}), "expected positions"),
        (task(original_width="5"), "whole numbers"),
        (task(value=None, type="brushlabels", original_height=3), "expected a list of names"),
        (task(type=None), "type = None"),
        (task({"brushlabels": ["cat"], "rle": [1, 2]}, type="brushlabels"), "damaged"),
        ({**task(), "label_config.xml": '<!DOCTYPE a [<!ENTITY b "c">]><View/>'}, "document type"),
    ],
)
def test_bad_label_studio(files: dict[str, bytes | str], said: str) -> None:
    refused("label_studio", files, said)


def test_label_studio_uploads_and_what_is_no_mask() -> None:
    text = str(task()["tasks.json"]).replace("x.png", "0123abcd-x.png")
    (picture,) = read_back(FORMATS["label_studio"], archive({"tasks.json": text}), {"x.png": (4, 5)}).pictures
    assert picture.name == "x.png" and picture.masks["cat"].any()
    boxes = read_back(FORMATS["label_studio"], archive(task(type="rectanglelabels")), {"x.png": (4, 5)})
    assert next(iter(boxes.pictures)).masks == {} and "not masks" in boxes.losses.sentences()[0]


def cvat(inside: str, head: str = "") -> dict[str, bytes | str]:
    image = f'<image id="0" name="x.png" width="5" height="4">{inside}</image>'
    return {"annotations.xml": f"{head}<annotations>{image}</annotations>"}


MASK = '<mask label="cat" rle="{}" left="{}" top="1" width="2" height="2"/>'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"annotations.xml": "<annotations>"}, "not well-formed"),
        ({"annotations.xml": "<other/>"}, "not 'CVAT for images"),
        ({"annotations.xml": "<annotations><track/></annotations>"}, "not as video"),
        (cvat("", '<!DOCTYPE a [<!ENTITY b "c">]>'), "document type"),
        (cvat('<mask label="cat"/>'), "without left"),
        (cvat('<mask rle="1"/>'), "without label"),
        (cvat(MASK.format("1, 4", 1)), "adds up to 5 pixels"),
        (cvat(MASK.format("1, -1, 4", 1)), "no list of lengths"),
        (cvat(MASK.format("0, 4", 4)), "expected one inside"),
        (cvat(MASK.format("0, 4", "nan")), "whole number"),
        (cvat('<polygon label="cat" points="1,1;nan,2;3,3"/>'), "expected positions"),
        (cvat('<polygon label="cat" points="1,1;x,2;3,3"/>'), "no numbers"),
        ({"annotations.xml": cvat("")["annotations.xml"].replace("x.png", "/x.png")}, "plain path"),  # type: ignore[arg-type]
        ({"annotations.xml": cvat("")["annotations.xml"].replace('"5"', '"1e9"')}, "whole number"),  # type: ignore[arg-type]
    ],
)
def test_bad_cvat(files: dict[str, bytes | str], said: str) -> None:
    refused("cvat", files, said)


def test_cvat_that_is_not_all_masks() -> None:
    found = read_back(FORMATS["cvat"], archive(cvat('<box label="cat"/>' + MASK.format("1, 3", 1))))
    (picture,) = found.pictures
    assert picture.masks["cat"].tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0] * 5]
    assert "1 boxes" in found.losses.sentences()[0]


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def test_bad_indexed() -> None:
    two = png(np.array([[0, 2]], np.uint8))
    refused(
        "indexed",
        {"masks/x.png": two, "classes.json": '{"0": "background", "1": "cat"}'},
        "value 2, which has no name",
    )
    refused("indexed", {"masks/x.png": two, "classes.json": '["sky", "cat", "dog"]'}, "expected background")
    refused("indexed", {"masks/x.png": two, "classes.json": "3"}, "the archive: classes.json holds no names")
    refused("indexed", {"masks/x.png": b"x"}, "the archive: masks/x.png is not an image")
    refused("indexed", {"masks/x.png": two, "b/masks/x.png": two}, "2 folders")
    void = read_back(FORMATS["indexed"], archive({"masks/x.png": png(np.array([[1, 255]], np.uint8))}))
    (picture,) = void.pictures
    assert picture.masks["class 1"].tolist() == [[1, 0]] and "1 pixels are void" in void.losses.sentences()[0]


def test_options_are_keywords() -> None:
    assert ExportOptions() == ExportOptions(polygons=False, images=True)
