"""A project written to every format and read into another project."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from project_making import SIZE, box_labels, command, png, unique

from softmatch_jax._checks import InputError
from softmatch_jax.data.formats import FORMATS, ExportOptions, FolderSink, ZipSink, ZipSource
from softmatch_jax.serve.project.documents import FoundClass, FoundDocument
from softmatch_jax.serve.project.errors import NotFoundError, TooLargeError
from softmatch_jax.serve.project.exporting import (
    ExportReport,
    archive_names,
    export_project,
    labelled_classes,
)
from softmatch_jax.serve.project.importing import ImportReport, import_project
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.showing import all_shown
from softmatch_jax.serve.project.store import Store


def upload(store: Store, name: str, data: bytes) -> str:
    with Pictures(store.folder).incoming() as incoming:
        incoming.write(data)
        entry = store.add_image(name, incoming.finish(), id=unique())
    return next(iter(entry.changes)).partition("/")[2]


def objects() -> np.ndarray:
    """A ring and a box that touches it."""
    labels = box_labels(4, 4, 30, 30)
    labels[10:20, 10:20] = 0
    labels[4:30, 30:40] = 2
    return labels


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Four pictures: two accepted, of one name; one painted; one untouched."""
    store = Store.open(tmp_path / "project")
    for name, colour in (("cat", "#ff0010"), ("dog", "#00a0ff"), ("rare", "#123456")):
        store.run(command("add_class", name=name, colour=colour), id=unique())
    names = ["a/x.png", "x.png", "Füße.png", "later.png"]
    for seed, name in enumerate(names):
        upload(store, name, png(seed))
    masks = [
        ("i1", "c1", objects()),
        ("i1", "c2", box_labels(50, 40, 64, 48)),
        ("i2", "c1", box_labels(0, 0, 1, 1)),
    ]
    for iid, cid, labels in [*masks, ("i3", "c2", objects())]:
        store.import_masks(iid, {cid: store.put_raster(labels)}, id=unique(), accept=False)
    for iid in ("i1", "i2"):
        store.run(command("accept", iid, shown=all_shown(store.state(), iid)), id=unique())
    yield store
    store.close()


def export(store: Store, name: str, **options: object) -> tuple[bytes, ExportReport]:
    stream = io.BytesIO()
    with ZipSink(stream) as sink:
        report = export_project(store, Pictures(store.folder), FORMATS[name], sink, **options)  # type: ignore[arg-type]
    return stream.getvalue(), report


def import_into(store: Store, data: bytes, name: str | None = None, *, accept: bool = False) -> ImportReport:
    with ZipSource(io.BytesIO(data), "The import") as source:
        chosen = None if name is None else FORMATS[name]
        return import_project(store, Pictures(store.folder), source, chosen, accept=accept)


def content(store: Store, only: str | None = None) -> dict[tuple[str, str], list[list[int]]]:
    """The shown masks by the digest of the picture and the name of the class, any object being 1."""
    state = store.state()
    found = {}
    for key, image in state.of("image").items():
        for cid, digest in all_shown(state, key.partition("/")[2]).items():
            if only is None or image.status == only:
                found[image.digest, state.class_(cid).name] = (store.raster(digest) > 0).astype(int).tolist()
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_another_project_gets_what_was_accepted(tmp_path: Path, store: Store, name: str) -> None:
    data, report = export(store, name)
    assert (report.pictures, report.masks, report.objects) == (2, 3, 4)
    assert any("2 pictures are not accepted" in said for said in report.warnings)
    other = Store.open(tmp_path / "other")
    read = import_into(other, data, accept=True)
    assert (read.pictures, read.masks) == (2, 3)
    assert content(other) == content(store, "accepted")
    assert [image.status for image in other.state().of("image").values()] == ["accepted"] * 2
    assert {entry.name for entry in labelled_classes(other.state())} == {"cat", "dog", "rare"}
    assert other.check() == []
    other.close()


@pytest.mark.parametrize("name", FORMATS)
def test_masks_come_back_by_name_without_the_pictures(store: Store, name: str) -> None:
    before = content(store)
    data, report = export(store, name, which="shown", images=False, options=ExportOptions())
    assert report.pictures == 3 and "1 pictures were not looked at yet" in " ".join(report.warnings)
    for iid in ("i1", "i2"):
        store.run(command("reopen", iid), id=unique())
    for iid, cid in (("i1", "c1"), ("i1", "c2"), ("i2", "c1"), ("i3", "c2")):
        store.run(command("clear_layer", iid, cid), id=unique())
    assert content(store) == {}
    read = import_into(store, data, name)
    assert (read.pictures, read.masks, read.warnings) == (0, 4, ())
    assert content(store) == before
    for _ in range(3):  # one step a picture
        store.undo(id=unique())
    assert content(store) == {}


def test_colours_come_along_and_classes_that_are_there_are_used(tmp_path: Path, store: Store) -> None:
    data, _ = export(store, "coco")
    other = Store.open(tmp_path / "other")
    other.run(command("add_class", name="CAT", colour="#000001"), id=unique())
    import_into(other, data)
    found = {entry.name: entry.colour for entry in labelled_classes(other.state())}
    assert found == {"CAT": "#000001", "dog": "#00a0ff", "rare": "#123456"}
    other.close()


def test_what_is_accepted_or_rejected_is_not_touched(store: Store) -> None:
    data, _ = export(store, "coco", which="shown")
    store.run(command("reject", "i3"), id=unique())
    before = store.state()
    read = import_into(store, data)
    assert (read.pictures, read.masks) == (0, 0)
    assert "3 pictures are accepted or rejected" in read.warnings[0]
    assert store.state().docs == before.docs


def test_rejected_pictures_are_not_exported(store: Store) -> None:
    store.run(command("reject", "i3"), id=unique())
    _, report = export(store, "coco", which="shown")
    assert report.pictures == 2


def test_matched_pictures_are_exported_with_scores_even_when_nothing_was_found(store: Store) -> None:
    raster = store.put_raster(box_labels(3, 3, 9, 9))
    common = {"reason": None, "resemblance": 0.5, "log_evidence": 1.0, "heat": None}
    cat = FoundClass(raster=raster, absent=False, score=0.75, instances=1, **common)
    dog = FoundClass(raster=None, absent=True, score=0.1, instances=0, **common)
    found = FoundDocument(basis="0" * 64, classes={"c1": cat, "c2": dog}, uncertainty=0.5)
    store.derive({"found/i4": found}, what={})
    data, report = export(store, "coco", which="shown")
    assert report.pictures == 4
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        annotations = json.loads(file.read("annotations/instances_default.json"))["annotations"]
    assert [entry.get("score") for entry in annotations] == [None] * 6 + [0.75]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x.png", "x.PNG", "x.jpg"], ["x.png", "x_2.PNG", "x_3.jpg"]),
        (["../../etc/passwd", "C:\\y.png", "a?b*.png"], ["etc/passwd.png", "C_/y.png", "a_b_.png"]),
        ([".hidden.png", "...", "no ending"], ["hidden.png", "picture.png", "no ending.png"]),
        (["日" * 150 + ".png"], ["日" * 66 + ".png"]),
    ],
)
def test_names_in_an_export_are_plain_and_distinct(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    store = Store.open(tmp_path / "project")
    for seed, name in enumerate(names):
        iid = upload(store, name, png(seed))
        store.run(command("accept", iid, shown={}), id=unique())
    assert list(archive_names(store.state(), Pictures(store.folder)).values()) == expected
    for form in FORMATS.values():
        stream = io.BytesIO()
        with ZipSink(stream) as sink:
            export_project(store, Pictures(store.folder), form, sink)
        with zipfile.ZipFile(stream) as file:
            written = [
                name
                for name in file.namelist()
                if file.read(name) in [png(seed) for seed in range(len(names))]
            ]
        assert sorted(name.removeprefix("images/") for name in written) == sorted(expected)
    store.close()


def test_warnings_lie_in_the_export(tmp_path: Path, store: Store) -> None:
    report = export_project(store, Pictures(store.folder), FORMATS["yolo"], FolderSink(tmp_path / "out"))
    assert any("holes" in said for said in report.warnings)
    assert (tmp_path / "out/warnings.txt").read_text().splitlines() == list(report.warnings)


def test_pictures_that_are_turned_by_their_metadata_are_said(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "project")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(buffer, "JPEG", exif=exif)
    iid = upload(store, "turned.jpg", buffer.getvalue())
    labels = np.zeros((30, 20), np.uint16)
    labels[5, 5] = 1
    store.run(command("add_class", name="cat"), id=unique())
    store.import_masks(iid, {"c1": store.put_raster(labels)}, id=unique(), accept=True)
    data, report = export(store, "coco")
    assert "1 pictures are stored turned" in report.warnings[0]
    other = Store.open(tmp_path / "other")
    import_into(other, data)
    assert content(other) == content(store)
    other.close()
    store.close()


def test_a_missing_picture_is_found_before_anything_is_written(tmp_path: Path, store: Store) -> None:
    Pictures(store.folder).path(store.state().image("i2").digest).unlink()
    with pytest.raises(NotFoundError, match=r"x\.png: .*without the pictures"):
        export_project(store, Pictures(store.folder), FORMATS["coco"], FolderSink(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    report = export_project(
        store, Pictures(store.folder), FORMATS["coco"], FolderSink(tmp_path / "out"), images=False
    )
    assert report.pictures == 2


def changed(data: bytes, **files: bytes | None) -> bytes:
    """An archive with other files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in {**dict.fromkeys(old.namelist()), **files}:
            body = files[name] if name in files else old.read(name)
            if body is not None:
                new.writestr(name, body)
    return stream.getvalue()


def test_nothing_changes_where_something_cannot_be_read(tmp_path: Path, store: Store) -> None:
    data, _ = export(store, "coco", which="shown")
    other = Store.open(tmp_path / "other")
    before = other.state()
    place = "annotations/instances_default.json"
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        document = json.loads(file.read(place))
    last = document["annotations"][-1]["segmentation"]
    last["counts"] = last["counts"][:-2]
    cases = [
        (changed(data, **{place: json.dumps(document).encode()}), "annotations"),
        (changed(data, **{place: None}), "holds no known masks"),
        (changed(data, **{"images/Füße.png": b"\x89PNG\r\n\x1a\n"}), "images/Füße.png"),
        (changed(data, **{"images/Füße.png": png(1, (9, 9))}), "it is 9x9"),
    ]
    for bad, said in cases:
        with pytest.raises(InputError, match=said):
            import_into(other, bad)
        assert other.state() is before
    with (
        ZipSource(io.BytesIO(data), "The import") as source,
        pytest.raises(TooLargeError, match="The import: images/"),
    ):
        import_project(other, Pictures(other.folder, max_bytes=1000), source, None, accept=False)
    assert other.state() is before
    other.close()


def test_masks_of_another_size_than_the_picture_in_the_project(store: Store) -> None:
    document = {
        "images": [{"id": 1, "file_name": "later.png", "width": 5, "height": 5}],
        "annotations": [],
        "categories": [],
    }
    data = changed(
        export(store, "coco", images=False)[0],
        **{"annotations/instances_default.json": json.dumps(document).encode()},
    )
    with pytest.raises(InputError, match=f"5x5 pixels and the picture is {SIZE[1]}x{SIZE[0]}"):
        import_into(store, data)


def test_pictures_that_are_nowhere_and_pictures_that_are_there_twice(tmp_path: Path, store: Store) -> None:
    other = Store.open(tmp_path / "other")
    bare, _ = export(store, "labelme", images=False)
    read = import_into(other, bare)
    assert (read.pictures, read.masks) == (0, 0) and "2 pictures are neither" in read.warnings[0]
    data, _ = export(store, "coco")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        twin = file.read("images/x.png")
    read = import_into(other, changed(data, **{"images/a/x.png": twin}))
    assert read.pictures == 1 and "1 pictures are the same file" in read.warnings[0]
    other.close()


def test_classes_that_differ_in_case_alone_or_are_too_long(tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other")
    for names, said in ((["cat", "Cat"], "upper and lower case"), (["x" * 201], "cannot name a class")):
        categories = [{"id": i, "name": name} for i, name in enumerate(names)]
        document = {"images": [], "annotations": [], "categories": categories}
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr("x.json", json.dumps(document))
        with pytest.raises(InputError, match=said):
            import_into(other, stream.getvalue())
        assert not other.state().of("class")
    other.close()


def test_losses_before_and_warnings_after(store: Store) -> None:
    for form, polygons in itertools.product(FORMATS.values(), (False, True)):
        before = form.losses(labelled_classes(store.state()), ExportOptions(polygons=polygons))
        assert all(isinstance(said, str) and said.endswith(".") for said in before)
    assert FORMATS["coco"].losses(labelled_classes(store.state()), ExportOptions()) == []
