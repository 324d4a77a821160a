from __future__ import annotations

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import read_image
from softmatch_jax.training import curves
from softmatch_jax.training.curves import draw_curves
from softmatch_jax.training.display import Display, summary
from softmatch_jax.training.metrics import MetricsFile, Window, check_names, read_metrics
from softmatch_jax.training.step import Outcome
from softmatch_jax.training.task import Weighted
from softmatch_jax.training.timing import Clock


def outcome(loss, *, rate=0.1, finite=True, skipped=0):
    values = {"loss": jnp.float32(loss), "iou": jnp.float32(loss / 2)}
    return Outcome(values, jnp.float32(rate), jnp.bool_(finite), jnp.int32(skipped), jnp.int32(0))


def test_means_leave_out_what_was_skipped():
    window = Window()
    for step in (outcome(1), outcome(np.nan, finite=False, skipped=1), outcome(4, rate=0.5, skipped=1)):
        window.add(step)
    record = window.close()
    assert record == {"loss": 2.5, "iou": 1.25, "learning_rate": 0.5, "skipped": 1}
    assert window.kept() == {"weights": {}, "sums": {}}


def test_a_metric_of_some_steps_only():
    window = Window()
    window.add(outcome(1))
    window.add(Outcome({"loss": jnp.float32(3), "corrected": jnp.float32(0.5)}, *outcome(3)[1:]))
    record = window.close()
    assert (record["loss"], record["iou"], record["corrected"]) == (2, 0.5, 0.5)


def test_a_mean_by_weights():
    window = Window()
    for total, weight in ((0.5, 1), (0, 0), (2.5, 3)):
        values = {"loss": jnp.float32(1), "iou_box": Weighted(jnp.float32(total), jnp.float32(weight))}
        window.add(Outcome(values, *outcome(3)[1:]))
    assert window.close()["iou_box"] == 0.75
    # Nothing to say of, which is not zero.
    window.add(Outcome({"iou_box": Weighted(jnp.float32(0), jnp.float32(0))}, *outcome(3)[1:]))
    assert window.close()["iou_box"] is None


def test_a_window_goes_on_from_what_was_kept():
    losses = np.random.default_rng(0).normal(size=9)
    whole = Window()
    for loss in losses:
        whole.add(outcome(loss))
    first = Window()
    for loss in losses[:4]:
        first.add(outcome(loss))
    second = Window(json.loads(json.dumps(first.kept())))
    for loss in losses[4:]:
        second.add(outcome(loss))
    assert second.close() == whole.close()


def test_nothing_but_skipped_steps():
    window = Window()
    window.add(outcome(np.inf, finite=False, skipped=1))
    assert window.close()["loss"] is None


def test_lines_after_the_checkpoint_are_cut(tmp_path):
    file = MetricsFile(tmp_path, 0)
    for step in (5, 10, 15):
        file.append({"step": step, "loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a") as cut_short:
        cut_short.write('{"step": 20, "lo')
    again = MetricsFile(tmp_path, 10)
    again.append({"step": 15, "loss": 7.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == again.history
    assert [(line["step"], line["loss"]) for line in again.history] == [(5, 0.2), (10, 0.1), (15, 7.0)]


def test_a_line_that_is_no_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nhello\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 2, is no record"):
        read_metrics(path)


def test_names_of_the_loop_and_vectors_are_refused():
    check_names({"iou": jnp.float32(0)})
    with pytest.raises(InputError, match="'waiting'"):
        check_names({"waiting": jnp.float32(0)})
    with pytest.raises(InputError, match=r"'iou' has shape \[2\]"):
        check_names({"iou": jnp.zeros(2)})


def test_the_clock_keeps_compilation_apart(monkeypatch):
    now = 100.0
    monkeypatch.setattr("softmatch_jax.training.timing.time.perf_counter", lambda: now)
    clock = Clock(before=50.0)
    for part, seconds in (("compiling", 30.0), ("waiting", 1.0), ("stepping", 6.0)):
        with clock.of(part):
            now += seconds
    now += 3.0
    clock.count(20)
    assert clock.read() == {
        "seconds": 90.0,
        "pictures_per_second": 2.0,
        "waiting": 0.1,
        "stepping": 0.6,
        "other": 0.3,
        "compiling": 30.0,
    }
    now += 1.0
    assert clock.read()["pictures_per_second"] == 0


RECORD = {"step": 10, "loss": 0.25, "iou": None, "skipped": 2, "pictures_per_second": 8.0, "waiting": 0.015}


def test_a_record_on_a_line():
    told = "loss 0.2500, iou not finite, 2 steps skipped, 8.0 pictures/s, 1.5 % waiting for data"
    assert summary(RECORD) == told
    stream = io.StringIO()
    with Display(stream, 40, 0) as display:
        display.step(1)
        display.record(RECORD)
        display.say("[done]")
    assert stream.getvalue() == f"[10/40] {told}\n[done]\n"


def test_a_terminal_gets_a_bar_and_quiet_nothing():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Display(stream, 40, 10) as display:
        display.step(20)
        display.record(RECORD)
        display.say("[note]")
    assert all(text in stream.getvalue() for text in ("20/40", "loss 0.2500", "[note]"))
    with Display(None, 40, 0) as display:
        display.step(1)
        display.record(RECORD)
        display.say("x")


def test_curves(tmp_path):
    def line(step):
        return {
            "step": step,
            "loss": 1 / step,
            "iou": None if step == 3 else 0.5,
            "skipped": 0,
            "waiting": 0.1,
        }

    draw_curves(tmp_path, [line(1)])
    assert not (tmp_path / curves.FILE).exists()
    draw_curves(tmp_path, [line(step) for step in range(1, 60)])
    picture = read_image(tmp_path / curves.FILE)
    assert picture.shape == (220, 720, 3)  # loss and iou
    blue = (picture == (0x1F, 0x5F, 0x99)).all(axis=-1)
    rows = [np.flatnonzero(blue[:, column]).mean() for column in (70, 320)]
    assert rows[0] < rows[1]  # the loss comes down
    assert blue[:, 360:].any()
