"""The engine on a local Ray: the same answers as on one thread, from two replicas."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import serve_scenes

from softmatch_jax import InputError
from softmatch_jax.serve.engine import ray_serve
from softmatch_jax.serve.engine.queue import ClosedError
from softmatch_jax.serve.engine.ray_serve import RayEngine
from softmatch_jax.serve.engine.requests import Completion, Example, Examples, Matching, Picture
from softmatch_jax.serve.engine.service import ModelService
from softmatch_jax.serve.project.documents import Point


def with_ray(test):
    """Marks a test that starts Ray; what Ray warns of is not ours to mend."""
    missing = any(importlib.util.find_spec(name) is None for name in ("ray", "grpc", "opencensus"))
    for mark in (
        pytest.mark.slow,
        pytest.mark.skipif(missing, reason="ray is not installed with its part for serving"),
        pytest.mark.filterwarnings("default"),
    ):
        test = mark(test)
    return test


class Cold(ModelService):
    """Not warmed up, to save the time of compiling what no test asks for."""

    def warm_up(self):
        pass


def make():
    return Cold(serve_scenes.pouring_matcher(), backend=f"process {os.getpid()}")


def started(maker, **options):
    import ray

    for name in (__name__, serve_scenes.__name__):  # replicas do not know the folder of the tests
        ray.cloudpickle.register_pickle_by_value(sys.modules[name])
    engine = RayEngine(maker, **options)
    until = time.monotonic() + 300
    while not engine.ready and engine.error is None and time.monotonic() < until:
        time.sleep(0.1)
    return engine


def without_ray(name):
    raise ModuleNotFoundError(name=name)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(ray_serve.importlib, "import_module", without_ray)
    with pytest.raises(InputError, match=r"softmatch-jax\[ray\]"):
        RayEngine(make)


@pytest.mark.parametrize("bad", [{"replicas": 0}, {"batch": 0}])
def test_numbers_are_checked(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        RayEngine(make, **bad)


@pytest.fixture(scope="module")
def engine():
    engine = started(make, replicas=2, batch=3)
    assert engine.error is None and engine.ready
    yield engine
    engine.close()
    with pytest.raises(ClosedError):
        engine.submit_encode(Picture("a", Path("a.png")))


@with_ray
def test_the_same_answers_as_on_one_thread(engine, tmp_path):
    image, _ = serve_scenes.scene([((45, 60), 28, serve_scenes.RED), ((118, 60), 28, serve_scenes.RED)], 0)
    reference = serve_scenes.stored(image, tmp_path)
    targets = [
        serve_scenes.stored(serve_scenes.scene([((80, 50), 26, serve_scenes.RED)], seed)[0], tmp_path)
        for seed in range(1, 5)
    ]
    own = make()
    assert engine.info.model == own.info.model and engine.info.backend != own.info.backend
    request = Completion(picture=reference, prompts=(Point(xy=(45, 60)),))
    labels = own.complete(request).labels
    shown = (Example(picture=reference, class_id="c1", labels=labels),)
    examples = Examples(digest="a" * 64, references=shown, phrases={})
    questions = [Matching(picture=target, examples=examples, seed=3) for target in targets]
    futures = [engine.submit_matching(question) for question in questions]
    np.testing.assert_array_equal(engine.submit_completion(request).result(200).labels, labels)
    for future, expected in zip(futures, own.match(questions), strict=True):
        answer = future.result(200)
        assert answer.uncertainty == pytest.approx(expected.uncertainty, abs=1e-5)
        np.testing.assert_array_equal(answer.classes["c1"].labels, expected.classes["c1"].labels)


@with_ray
def test_a_failure_is_said_plainly(engine, tmp_path):
    missing = Picture("x", tmp_path / "gone.png")
    for future in (
        engine.submit_encode(missing),
        engine.submit_completion(Completion(picture=missing, prompts=(Point(xy=(1, 1)),))),
        engine.submit_matching(
            Matching(picture=missing, examples=Examples(digest="b", references=(), phrases={}), seed=0)
        ),
    ):
        with pytest.raises(InputError, match=r"gone\.png|no examples"):
            future.result(200)
