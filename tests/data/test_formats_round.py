"""Every format written and read again, and read by what others wrote: pycocotools and `open_folder`."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from format_pictures import (
    CLASSES,
    archive,
    hard,
    labelled,
    picture_file,
    ragged,
    read_back,
    ring,
    touching,
    union,
    zipped,
)
from pycocotools.coco import COCO

from softmatch_jax._checks import InputError
from softmatch_jax.data import open_folder
from softmatch_jax.data.formats import (
    FORMATS,
    ExportOptions,
    FolderSink,
    FolderSource,
    LabelledClass,
    LabelledPicture,
    ZipSource,
    recognise,
)
from softmatch_jax.data.formats.names import distinct_names

# pycocotools 2.0 hands NumPy 2 an object that does not know copies; its masks are right all the same.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

CAT, THING, _ = (entry.name for entry in CLASSES)
WAYS = [
    (name, polygons)
    for name, form in FORMATS.items()
    for polygons in (False, *(["polygons"] if form.options else []))
]
OBJECTS_KEPT = [
    *(("coco", False), ("coco", "polygons"), ("cvat", False), ("cvat", "polygons"), ("yolo", False)),
    *(("labelme", False), ("labelme", "polygons"), ("label_studio", False)),
]


def options(polygons: object) -> ExportOptions:
    return ExportOptions(polygons=bool(polygons))


@pytest.mark.parametrize(("name", "polygons"), WAYS)
def test_pixels_classes_and_names_come_back(tmp_path: Path, name: str, polygons: object) -> None:
    pictures = hard(tmp_path)
    data, written = zipped(FORMATS[name], pictures, options(polygons))
    found = read_back(FORMATS[name], data)
    assert [entry.name for entry in found.classes] == [entry.name for entry in CLASSES]
    assert written.pictures == len(pictures)
    assert written.objects == sum(len(np.unique(m[m > 0])) for p in pictures for m in p.masks.values())
    again = {picture.name: picture for picture in found.pictures}
    assert sorted(again) == sorted(picture.name for picture in pictures)
    covered = name == "indexed"
    for picture in pictures:
        assert again[picture.name].size == picture.size
        for entry in CLASSES:
            expected = union(picture.masks, entry.name, picture.size)
            got = union(again[picture.name].masks, entry.name, picture.size)
            if covered:
                others = np.any(
                    [union(picture.masks, c.name, picture.size) for c in CLASSES if c != entry], axis=0
                )
                np.testing.assert_array_equal(got[~others], expected[~others])
            else:
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("name", "polygons"), OBJECTS_KEPT)
def test_objects_come_back_one_by_one(tmp_path: Path, name: str, polygons: object) -> None:
    pictures = hard(tmp_path, many=True)
    data, _ = zipped(FORMATS[name], pictures, options(polygons))
    found = read_back(FORMATS[name], data)
    again = {picture.name: picture for picture in found.pictures}
    for picture in pictures:
        assert set(again[picture.name].masks) == set(picture.masks)
        for class_name, labels in picture.masks.items():
            np.testing.assert_array_equal(again[picture.name].masks[class_name], labels)
    assert found.losses.sentences() == ()


@pytest.mark.parametrize("name", ["coco", "indexed", "label_studio", "cvat"])
def test_colours_come_back(tmp_path: Path, name: str) -> None:
    data, _ = zipped(FORMATS[name], hard(tmp_path))
    assert read_back(FORMATS[name], data).classes == CLASSES


@pytest.mark.parametrize("name", ["yolo", "labelme"])
def test_lost_colours_are_said(name: str) -> None:
    assert any("Colours" in said for said in FORMATS[name].losses(CLASSES, ExportOptions()))


@pytest.mark.parametrize("name", FORMATS)
def test_exports_are_recognised_in_a_folder_and_a_zip_file(tmp_path: Path, name: str) -> None:
    pictures = hard(tmp_path / "pictures")
    data, _ = zipped(FORMATS[name], pictures)
    with ZipSource(io.BytesIO(data), "the archive") as source:
        assert recognise(source).name == name
    folder = tmp_path / "out"
    FORMATS[name].write(FolderSink(folder), CLASSES, pictures, ExportOptions())
    source = FolderSource(folder)
    assert recognise(source).name == name
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert {n: file.read(n) for n in file.namelist()} == {n: source.read(n) for n in source.names}


@pytest.mark.parametrize("name", FORMATS)
def test_pictures_are_written_as_they_are_or_left_out(tmp_path: Path, name: str) -> None:
    pictures = hard(tmp_path)
    data, _ = zipped(FORMATS[name], pictures)
    found = read_back(FORMATS[name], data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = {p.name: p.entry for p in found.pictures}
        for picture in pictures:
            assert picture.path is not None
            assert file.read(entries[picture.name] or "") == picture.path.read_bytes()
    bare, _ = zipped(FORMATS[name], pictures, ExportOptions(images=False))
    with zipfile.ZipFile(io.BytesIO(bare)) as file:
        assert not any(
            n.startswith("images/") or (n.endswith("x.png") and "masks" not in n) for n in file.namelist()
        )
    known = {picture.name: picture.size for picture in pictures}
    again = {p.name: p for p in read_back(FORMATS[name], bare, known).pictures}
    assert sorted(again) == sorted(known)
    for picture in pictures:
        for class_name in picture.masks:
            if name != "indexed":
                np.testing.assert_array_equal(
                    again[picture.name].masks[class_name], picture.masks[class_name]
                )


def test_yolo_without_pictures_says_what_cannot_be_read(tmp_path: Path) -> None:
    bare, _ = zipped(FORMATS["yolo"], hard(tmp_path), ExportOptions(images=False))
    found = read_back(FORMATS["yolo"], bare)
    assert list(found.pictures) == []
    assert "6 label files" in found.losses.sentences()[0]


@pytest.mark.parametrize("polygons", [False, True])
def test_pycocotools_reads_coco(tmp_path: Path, polygons: bool) -> None:
    pictures = hard(tmp_path / "pictures", many=True)
    FORMATS["coco"].write(FolderSink(tmp_path / "out"), CLASSES, pictures, ExportOptions(polygons=polygons))
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCO(str(tmp_path / "out/annotations/instances_default.json"))
    assert {c["id"]: c["name"] for c in judge.loadCats(judge.getCatIds())} == {
        1: CAT,
        2: THING,
        3: "never seen",
    }
    by_name = {entry["file_name"]: entry["id"] for entry in judge.loadImgs(judge.getImgIds())}
    total = 0
    for picture in pictures:
        for index, entry in enumerate(CLASSES, start=1):
            labels = picture.masks.get(entry.name, np.zeros(picture.size, np.uint16))
            found = judge.loadAnns(judge.getAnnIds(imgIds=[by_name[picture.name]], catIds=[index]))
            numbers = np.unique(labels[labels > 0]).tolist()
            assert len(found) == len(numbers)
            for number, annotation in zip(numbers, found, strict=True):
                mask = judge.annToMask(annotation) > 0
                np.testing.assert_array_equal(mask, labels == number)
                assert annotation["area"] == mask.sum()
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert annotation["bbox"] == box
                total += 1
    assert total == len(judge.anns)


@pytest.mark.parametrize("layout", ["coco", "indexed", "labelme", "yolo"])
@pytest.mark.parametrize("polygons", [False, True])
def test_the_folder_readers_of_the_package_agree(tmp_path: Path, layout: str, polygons: bool) -> None:
    masks = {"a/x.png": {CAT: ring()}, "b/x.png": {THING: touching()}, "c/y.png": {CAT: ragged(3)}}
    pictures = labelled(tmp_path / "pictures", masks)
    FORMATS[layout].write(FolderSink(tmp_path / "out"), CLASSES, pictures, ExportOptions(polygons=polygons))
    lists = open_folder(tmp_path / "out", layout=layout)
    seen = 0
    for class_name in (CAT, THING):
        for sample in lists.samples[class_name]:
            picture = next(p for p in pictures if sample.name.endswith(p.name.removesuffix(".png")))
            mask = sample.truth.read(picture.size).mask
            np.testing.assert_array_equal(mask, picture.masks[class_name] > 0)
            seen += 1
    assert seen == 3


def test_indexed_counts_what_it_loses(tmp_path: Path) -> None:
    first, second = np.zeros((10, 10), np.uint16), np.zeros((10, 10), np.uint16)
    first[:6] = 1
    second[4:6, :3] = 1
    second[8, 8] = second[0, 9] = 2
    pictures = labelled(tmp_path, {"x.png": {CAT: first, THING: second}, "y.png": {THING: touching()}})
    data, written = zipped(FORMATS["indexed"], pictures)
    said = " ".join(written.warnings)
    # 2x3 and one pixel of the thing lie on the cat; three of `touching` touch; one thing has two parts.
    assert "7 pixels are of several classes" in said
    assert "3 objects touch" in said
    assert "1 objects have several parts" in said
    found = {p.name: p for p in read_back(FORMATS["indexed"], data).pictures}
    np.testing.assert_array_equal(found["x.png"].masks[THING] > 0, second > 0)
    np.testing.assert_array_equal(found["x.png"].masks[CAT] > 0, (first > 0) & (second == 0))
    with zipfile.ZipFile(io.BytesIO(data)) as file, PIL.Image.open(file.open("masks/x.png")) as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 255, 0, 16, 0, 160, 255]
        assert np.unique(np.asarray(image)).tolist() == [0, 1, 2]


def test_yolo_counts_holes_and_parts(tmp_path: Path) -> None:
    _, written = zipped(FORMATS["yolo"], labelled(tmp_path, {"x.png": {CAT: ring(), THING: touching()}}))
    assert len(written.warnings) == 2
    assert "1 objects have holes" in written.warnings[0] and "x.png" in written.warnings[0]
    assert "1 objects have several parts" in written.warnings[1]


def test_label_studio_polygons_count_parts(tmp_path: Path) -> None:
    data, written = zipped(
        FORMATS["label_studio"], labelled(tmp_path, {"x.png": {CAT: ring()}}), options(True)
    )
    assert "1 objects have several parts" in written.warnings[0]
    (picture,) = read_back(FORMATS["label_studio"], data).pictures
    np.testing.assert_array_equal(picture.masks[CAT] > 0, ring() > 0)
    assert picture.masks[CAT].max() == 3


@pytest.mark.parametrize(
    ("name", "polygons"), [w for w in WAYS if w[0] in ("coco", "cvat", "labelme", "label_studio")]
)
def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path, name: str, polygons: object) -> None:
    pictures = labelled(tmp_path, {"x.png": {CAT: touching()}})
    assert zipped(FORMATS[name], pictures, options(polygons))[1].warnings == ()
    assert bool(FORMATS[name].losses(CLASSES[:1], options(polygons))) == bool(polygons) or name == "labelme"


def test_scores_are_written_where_there_are_some(tmp_path: Path) -> None:
    path = picture_file(tmp_path, "x.png", (12, 16))
    picture = LabelledPicture(
        name="x.png", size=(12, 16), masks={CAT: ring(), THING: ring()}, path=path, scores={CAT: 0.5}
    )
    data, _ = zipped(FORMATS["coco"], [picture])
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        annotations = json.loads(file.read("annotations/instances_default.json"))["annotations"]
    assert [annotation.get("score") for annotation in annotations] == [0.5, None]


def test_exports_are_equal_byte_by_byte(tmp_path: Path) -> None:
    pictures = hard(tmp_path)
    for form in FORMATS.values():
        assert zipped(form, pictures)[0] == zipped(form, pictures)[0]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_without_pictures_or_classes_is_read(name: str) -> None:
    data, written = zipped(FORMATS[name], [])
    assert (written.pictures, written.objects) == (0, 0)
    if name not in ("indexed", "labelme"):  # these have a file for each picture, and so none
        found = read_back(FORMATS[name], data)
        assert list(found.pictures) == [] and [c.name for c in found.classes] == [c.name for c in CLASSES]


@pytest.mark.parametrize("name", FORMATS)
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    path = picture_file(tmp_path, "x.png", (12, 16))

    def refused(said: str, **fields: object) -> None:
        base = {"name": "x.png", "size": (12, 16), "masks": {}, "path": path}
        picture = LabelledPicture(**{**base, **fields})
        with pytest.raises(InputError, match=said):
            zipped(FORMATS[name], [picture])

    refused("not among the classes", masks={"dog": ring()})
    refused("expected uint16", masks={CAT: ring().T})
    refused("expected uint16", masks={CAT: ring().astype(np.int32)})
    refused("plain path", name="../x.png")
    refused("plain path", name="/x.png")


@pytest.mark.parametrize("names", [("a", "a"), ("",), ("two\nlines",), ("\ud800",)])
def test_names_of_classes_that_cannot_be_kept(names: tuple[str, ...]) -> None:
    for form in FORMATS.values():
        with pytest.raises(InputError):
            form.write(
                FolderSink.__new__(FolderSink), [LabelledClass(name=n) for n in names], [], ExportOptions()
            )


def test_more_classes_than_a_palette_holds(tmp_path: Path) -> None:
    many = [LabelledClass(name=f"class {i}") for i in range(255)]
    assert any("254" in said for said in FORMATS["indexed"].losses(many, ExportOptions()))
    with pytest.raises(InputError, match="255 classes"):
        FORMATS["indexed"].write(FolderSink(tmp_path), many, [], ExportOptions())


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        FolderSink(tmp_path)
    FolderSink(tmp_path, overwrite=True).write("new/file.txt", b"y")
    assert (tmp_path / "keep.txt").read_text() == "x" and (tmp_path / "new/file.txt").read_text() == "y"


def test_names_are_made_distinct() -> None:
    names = ["x.jpg", "x.png", "X.jpg", "x_2.jpg", "a/x.jpg", "b/x.jpg", "x.jpg"]
    found = distinct_names(names)
    assert found[0] == "x.jpg" and found[3:6] == names[3:6]
    stems = [name.rpartition(".")[0].lower() for name in found]
    assert len(set(stems)) == len(stems)
    assert found[1] == "x_3.png"


def test_archives_with_a_folder_around_are_read(tmp_path: Path) -> None:
    for form in FORMATS.values():
        data, _ = zipped(form, hard(tmp_path))
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            inside = archive({f"my export/{name}": file.read(name) for name in file.namelist()})
        found = read_back(form, inside)
        assert [entry.name for entry in found.classes] == [entry.name for entry in CLASSES], form.name
        pictures = list(found.pictures)
        assert len(pictures) == 6 and all(picture.entry for picture in pictures), form.name
