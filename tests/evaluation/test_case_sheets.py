"""Which cases are shown, and that sheets of them can be looked at."""

import random
from dataclasses import replace

import numpy as np
import pytest
from disc_set import GREY, ByColour, disc_protocol

from softmatch_jax.data.annotating import Annotator
from softmatch_jax.evaluation import case_sheets
from softmatch_jax.evaluation.case_sheets import choose_cases, write_sheets
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.records import read_records
from softmatch_jax.evaluation.run_file import SHEETS
from softmatch_jax.evaluation.running import choose_places, mask_file, run_episodes
from softmatch_jax.imaging import read_image, write_indexed_mask
from softmatch_jax.prompting import MaskAnnotation

BEST, MEDIAN, WORST = SHEETS


def ranking(count):
    return [(0, index) for index in range(count)]


def test_the_ends_and_the_middle():
    chosen = choose_cases(ranking(11), 3)
    assert chosen == {
        BEST: [(0, 0), (0, 1), (0, 2)],
        MEDIAN: [(0, 4), (0, 5), (0, 6)],
        WORST: [(0, 10), (0, 9), (0, 8)],
    }
    assert choose_cases(ranking(4), 1)[MEDIAN] in ([(0, 1)], [(0, 2)])


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_fewer_cases_than_wanted(count):
    chosen = choose_cases(ranking(count), 5)
    assert chosen[BEST] == chosen[MEDIAN] == chosen[WORST][::-1] == ranking(count)


@pytest.fixture
def answered(tmp_path):
    """A protocol, the folder of a run over it, its records and their IoUs."""
    protocol, root = disc_protocol(tmp_path / "data"), tmp_path / "run"
    run_episodes(protocol, ByColour(cut=30), choose_places(len(protocol.episodes), seeds=(0,)), root)
    records = list(read_records(root))
    return protocol, root, records, [Counts(*record.counts).iou for record in records]


@pytest.fixture
def drawn(monkeypatch):
    """The places of the rows of each sheet, in the order of drawing; sheets are drawn small."""
    places = []
    row = case_sheets._row

    def watched(root, protocol, record, iou):
        places.append(record.place)
        return row(root, protocol, record, iou)

    monkeypatch.setattr(case_sheets, "_row", watched)
    monkeypatch.setattr(case_sheets, "_THUMBNAIL", 48)
    return places


def sheet(root, name):
    return read_image(root / name)


def test_sheets_are_written(answered, drawn):
    protocol, root, records, ious = answered
    write_sheets(root, protocol, records, ious, count=2)
    order = sorted(range(8), key=lambda i: -ious[i])
    assert sorted(ious[i] for i in (index for _, index in drawn[:2])) == sorted(ious[i] for i in order[:2])
    assert sorted(ious[i] for i in (index for _, index in drawn[4:])) == sorted(ious[i] for i in order[-2:])
    sizes = {sheet(root, name).shape for name in SHEETS}
    assert len(sizes) == 1 and not (sheet(root, BEST) == sheet(root, WORST)).all()


def test_ties_are_settled_by_the_place(answered, drawn):
    protocol, root, records, _ = answered
    write_sheets(root, protocol, records, [0.5] * 8, count=2)
    first = {name: (root / name).read_bytes() for name in SHEETS}
    assert drawn == [(0, 0), (0, 1), (0, 3), (0, 4), (0, 7), (0, 6)]
    random.Random(1).shuffle(records)
    write_sheets(root, protocol, records, [0.5] * 8, count=2)
    assert drawn[6:] == drawn[:6] and first == {name: (root / name).read_bytes() for name in SHEETS}


def test_a_case_whose_files_are_gone_is_left_out(answered, drawn):
    protocol, root, records, _ = answered
    write_sheets(root, protocol, records, [0.5] * 8, count=3)
    height = sheet(root, BEST).shape[0]
    mask_file(root, (0, 0)).unlink()
    write_indexed_mask(mask_file(root, (0, 1)), np.eye(9, dtype=np.uint8), GREY)  # of another picture by now
    write_sheets(root, protocol, records, [0.5] * 8, count=3)
    assert sheet(root, BEST).shape[0] < height and sheet(root, WORST).shape[0] == height
    protocol.episodes.episode(0, 2).target.image.unlink()
    write_sheets(root, protocol, records, [0.5] * 8, count=3)
    assert not (root / BEST).exists() and (root / WORST).exists()


def test_what_a_row_shows(answered):
    protocol, root, records, ious = answered
    reference, truth, found = case_sheets._row(root, protocol, records[1], ious[1])
    assert reference.caption == "red (reference)" and truth.caption == "red/1: truth"
    assert found.caption == f"IoU {ious[1]:.2f} (seed 0, index 1)"
    case = protocol.episodes.episode(0, 1).target.read()
    for tile, mask in ((truth, case.truth.mask), (found, case.truth.mask & (np.arange(64) < 30))):
        height, width = tile.image.shape[:2]
        rows, columns = np.nonzero(mask)
        inside = tile.image[int(rows.mean() * height / 48), int(columns.mean() * width / 64)].astype(int)
        assert np.abs(inside - case.image[20, 40]).max() > 10  # tinted where the object is
        assert np.abs(tile.image[-1, -1].astype(int) - case.image[-1, -1]).max() <= 3


def test_a_row_without_a_reference(answered):
    class Everything:
        name = "everything"

        def __call__(self, truth, *, seed, index, shot):
            return MaskAnnotation(np.ones_like(truth.mask))

    protocol, root, records, _ = answered
    absent = replace(records[0], absent=True)
    tiles = case_sheets._row(root, replace(protocol, annotate=Everything()), absent, 0.0)
    captions = ["red (reference, marks nothing)", "red/0: truth", "absent (seed 0, index 0)"]
    assert [tile.caption for tile in tiles] == captions


@pytest.mark.parametrize("kind", ["scribble", "box", "point"])
def test_annotations_of_all_kinds_are_drawn(answered, kind):
    protocol, root, records, ious = answered
    marked = replace(protocol, annotate=Annotator(kind=kind, mode="fixed"))
    tiles = case_sheets._row(root, marked, records[0], ious[0])
    plain = case_sheets._small(protocol.episodes.episode(0, 0).references[0].read().image)
    assert tiles[0].image.shape == plain.shape and (tiles[0].image != plain).any()
