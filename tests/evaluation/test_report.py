"""The results of a run and their table, against records made by hand."""

import json
import math
from dataclasses import replace

import pytest
from disc_set import ByColour, Refuses, disc_protocol

from softmatch_jax.evaluation.markdown import HEADINGS, TABLE, table, write_table
from softmatch_jax.evaluation.records import EpisodeRecord, RecordWriter
from softmatch_jax.evaluation.report import collect, report_run, results
from softmatch_jax.evaluation.run_file import RESULTS, SHEETS, start_run
from softmatch_jax.evaluation.running import NOTHING_SAID, choose_places, made_with, run_episodes

MADE = {
    "data": "folder discs",
    "sampling": "corrected",
    "shots": 1,
    "raster": None,
    "annotation": "mask (fixed)",
    "method": "geometric",
}


def record(index, counts, *, seed=0, class_name="red", **fields):
    return EpisodeRecord(
        seed=seed,
        index=index,
        class_name=class_name,
        target=f"{class_name}/{index}",
        references=("r",),
        counts=counts,
        **({"boundary": (1, 2, 4, 2, 4, 4), "seconds": 1.0} | fields),
    )


def failed(index, error="no such file", **fields):
    return record(index, (), boundary=(), error=error, **fields)


@pytest.fixture
def run(tmp_path):
    """Writes records as a run and reports on them."""

    def write(*records, places=None, name="run", **made):
        root = tmp_path / name
        start_run(root, MADE | made, resume=False, overwrite=False, join=False)
        with RecordWriter(root) as writer:
            for one in records:
                writer.write(one)
        return results(root, collect(root, places))

    return write


def test_pixels_are_pooled_by_class(run):
    document = run(
        record(0, (10, 0, 10, 80)),  # IoU 0.5
        record(1, (90, 10, 0, 100)),  # IoU 0.9
        record(2, (0, 0, 40, 60), class_name="blue"),  # IoU 0
        record(3, (20, 20, 0, 60), class_name="blue"),  # IoU 0.5
    )
    red, blue = 100 / 120, 20 / 80
    value = {name: metric["value"] for name, metric in document["metrics"].items()}
    assert value["miou"] == pytest.approx((red + blue) / 2, rel=1e-5)
    assert value["fb_iou"] == pytest.approx((120 / 200 + 300 / 380) / 2, rel=1e-5)
    assert value["mean_iou"] == pytest.approx((0.5 + 0.9 + 0 + 0.5) / 4, rel=1e-5)
    assert value["boundary_iou"] == 0.5 and value["boundary_f"] == pytest.approx(2 / 3, rel=1e-5)
    assert all(metric["low"] <= metric["value"] <= metric["high"] for metric in document["metrics"].values())
    assert document["classes"]["red"]["iou"] == pytest.approx(red, rel=1e-5)
    assert document["classes"]["blue"] | {"boundary_f": None} == {
        "episodes": 2,
        "iou": blue,
        "mean_iou": 0.25,
        "boundary_iou": 0.5,
        "boundary_f": None,
    }
    assert document["method"] == "geometric" and document["timings"] == {"median_seconds": 1.0}


def test_confusion(run):
    confusion = run(record(0, (10, 20, 30, 40)), record(1, (20, 0, 0, 80), class_name="blue"))["confusion"]
    assert confusion == {
        "true_positive_rate": 0.5,
        "false_negative_rate": 0.5,
        "true_negative_rate": pytest.approx(120 / 140, rel=1e-5),
        "false_positive_rate": pytest.approx(20 / 140, rel=1e-5),
        "true_positive_share": 0.15,
        "false_negative_share": 0.15,
        "true_negative_share": 0.6,
        "false_positive_share": 0.1,
    }
    nothing = run(record(0, (0, 0, 0, 9)), name="empty")["confusion"]
    assert nothing["true_positive_rate"] is None and nothing["true_negative_rate"] == 1


def test_failures_are_listed_and_not_counted(run):
    alone = run(record(0, (10, 0, 10, 80)), name="alone")
    document = run(
        record(0, (10, 0, 10, 80)), failed(1), failed(2, "torn"), places=[(0, i) for i in range(5)]
    )
    assert document["episodes"] | {"called_absent": 0, "without_reference": 0} == document["episodes"]
    counts = [document["episodes"][key] for key in ("asked", "done", "failed", "missing")]
    assert counts == [5, 1, 2, 2]
    assert document["failures"][1] == {
        "seed": 0,
        "index": 2,
        "class": "red",
        "target": "red/2",
        "error": "torn",
    }
    for part in ("metrics", "classes", "confusion"):
        assert document[part] == alone[part]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_episode_that_failed_and_was_then_done_counts_once(run, order):
    both = failed(0), record(0, (10, 0, 10, 80))
    document = run(*(both[i] for i in order))
    assert document["episodes"]["done"] == 1 and document["failures"] == []
    assert document["episodes"]["asked"] == 1


def test_an_episode_done_twice_counts_once(run):
    document = run(record(0, (10, 0, 10, 80)), record(0, (0, 0, 20, 80)))
    assert document["metrics"]["miou"]["value"] == 0.5 and document["classes"]["red"]["episodes"] == 1


def test_only_what_was_asked_for_counts(run):
    document = run(record(0, (10, 0, 10, 80)), record(1, (0, 0, 10, 90)), places=[(0, 0)])
    assert document["metrics"]["miou"]["value"] == 0.5 and document["episodes"]["asked"] == 1


def test_seeds(run):
    one = run(record(0, (10, 0, 10, 80)), name="one")
    assert one["seeds"] == [0] and one["metrics"]["miou"]["seed_deviation"] is None
    two = run(record(0, (10, 0, 10, 80), seed=3), record(0, (20, 0, 0, 80)), failed(1, seed=9))
    miou = two["metrics"]["miou"]
    assert two["seeds"] == [0, 3] and miou["value"] == miou["seed_mean"] == 0.75
    assert miou["seed_deviation"] == pytest.approx(0.5 / math.sqrt(2), rel=1e-5)


def test_absent_and_without_reference(run):
    document = run(
        record(0, (0, 0, 10, 90), absent=True, reason="unlike"),
        record(1, (0, 0, 10, 90), absent=True, reason=NOTHING_SAID),
    )
    assert document["episodes"]["called_absent"] == 2 and document["episodes"]["without_reference"] == 1


def test_nothing_is_done_yet(run):
    document = run(places=[(0, 0), (0, 1)])
    assert document["episodes"]["missing"] == 2 and document["seeds"] == []
    assert not {"metrics", "classes", "confusion", "timings"} & document.keys()
    text = table([document])
    assert "| geometric | folder discs | 0 |  |  |  |  |  |  |" in text and "seeds none" in text
    assert "geometric, folder discs: 2 of 2 episodes are not done yet." in text


def test_a_report_is_written(tmp_path):
    protocol, root = disc_protocol(tmp_path / "data"), tmp_path / "run"
    start_run(root, made_with(protocol, Refuses()), resume=False, overwrite=False, join=False)
    places = choose_places(len(protocol.episodes), seeds=(0,))
    run_episodes(protocol, Refuses(), places, root)
    document = report_run(root, protocol, places)
    assert json.loads((root / RESULTS).read_text(encoding="utf-8")) == document
    assert document["metrics"]["miou"]["value"] == 1 and len(document["failures"]) == 4
    assert all((root / name).exists() for name in SHEETS)


def test_names_of_any_bytes_and_scripts(tmp_path):
    protocol, root = disc_protocol(tmp_path / "data"), tmp_path / "run"
    start_run(root, made_with(protocol, ByColour()), resume=False, overwrite=False, join=False)
    with RecordWriter(root) as writer:
        writer.write(failed(0, class_name="büro"))
        writer.write(replace(failed(1), target="caf\udce9"))
    report_run(root, protocol, [(0, 0), (0, 1)])
    text = (root / RESULTS).read_text(encoding="utf-8")
    assert "büro/0" in text and [f["target"] for f in json.loads(text)["failures"]] == ["büro/0", "caf\ufffd"]
    assert not (root / SHEETS[0]).exists()


def metric(value, low, high, deviation=None):
    return {"value": value, "low": low, "high": high, "seed_mean": value, "seed_deviation": deviation}


def document(method="geometric", data="pascal5i fold 0", **changes):
    made = MADE | {
        "method": method,
        "data": data,
        "seeds": [0],
        "episodes": {"asked": 10, "done": 10, "failed": 0, "missing": 0, "without_reference": 0},
        "metrics": {name: metric(0.5, 0.4, 0.7) for name in HEADINGS},
        "timings": {"median_seconds": 0.12345},
    }
    return made | changes


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_cells_of_a_table():
    metrics = {name: metric(0.5, 0.4, 0.7) for name in HEADINGS} | {"miou": metric(0.1234, 0.1, 0.2, 0.0312)}
    del metrics["boundary_f"]
    text = table([document(metrics=metrics, seeds=[0, 1], raster=[32, 64])])
    heading, rule, row = rows(text)
    assert heading == ["method", "data", "episodes", *HEADINGS.values(), "s per target"]
    assert len(rule) == len(heading) == len(row)
    assert row[:5] == ["geometric", "pascal5i fold 0", "10", "12.3 ± 3.1 [10.0, 20.0]", "50.0 [40.0, 70.0]"]
    assert row[-2:] == ["", "0.123"]
    assert text.startswith("# pascal5i fold 0\n") and "seeds 0, 1" in text and "squashed to 64x32" in text


def test_the_mean_over_folds():
    folds = [
        document(
            data=f"pascal5i fold {i}", metrics={name: metric(v, v - 0.03, v + 0.04) for name in HEADINGS}
        )
        for i, v in enumerate((0.5, 0.7))
    ]
    text = table(folds)
    assert text.startswith("# pascal5i fold 0 to pascal5i fold 1\n")
    mean = rows(text)[-1]
    low, high = 60 - 100 * math.hypot(0.03, 0.03) / 2, 60 + 100 * math.hypot(0.04, 0.04) / 2
    assert mean[:4] == ["geometric", "mean of 2", "20", f"**60.0** [{low:.1f}, {high:.1f}]"]
    assert len(mean) == len(rows(text)[0])


def test_no_mean_of_what_one_fold_lacks():
    lacking = document(data="pascal5i fold 1")
    del lacking["metrics"]["boundary_f"]
    assert rows(table([document(), lacking]))[-1][-2:] == ["", ""]
    empty = {k: v for k, v in document(data="pascal5i fold 1").items() if k not in ("metrics", "timings")}
    assert "mean of" not in table([document(), empty])


def test_methods_have_their_own_lines():
    text = table([document(), document(data="pascal5i fold 1"), document("persam")])
    assert [row[0] for row in rows(text)[2:]] == ["geometric"] * 3 + ["persam"]


def test_notes():
    episodes = {"asked": 10, "done": 5, "failed": 2, "missing": 3, "without_reference": 1}
    text = table([document(), document("persam", episodes=episodes)])
    assert "geometric, pascal5i" not in text
    for count, what in (
        (2, "failed and are not counted"),
        (3, "are not done yet"),
        (1, "had no reference left"),
    ):
        assert f"persam, pascal5i fold 0: {count} of 10 episodes {what}" in text


def test_odd_names_do_not_break_the_table(tmp_path):
    text = write_table(tmp_path, [document(data="folder a|caf\udce9")])
    assert r"| folder a\|caf" in text and (tmp_path / TABLE).read_text(encoding="utf-8") == text
