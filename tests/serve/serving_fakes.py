"""Models that answer at once and always alike, and a project to use them on."""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
from pathlib import Path

import numpy as np
import PIL.Image

from softmatch_jax._checks import InputError
from softmatch_jax.serve.engine.requests import Completed, EngineInfo, Matched, MatchedClass
from softmatch_jax.serve.project.commands import AddClass, AddPrompt
from softmatch_jax.serve.project.documents import Point
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.store import Store

SIZE = (10, 14)


def digest_of(*parts) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def labels_for(*parts) -> np.ndarray:
    """A raster that the parts decide."""
    seed = int.from_bytes(digest_of(*parts)[:4], "big")
    return np.random.default_rng(seed).integers(0, 3, SIZE).astype(np.uint16)


class FakeModels:
    """Answers that are functions of the question. While ``gate`` is not set, they wait."""

    info = EngineInfo(backend="fake", model="fake 1", texts=False)

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.calls: list[tuple[str, str]] = []
        self.bad: dict[str, Exception] = {}

    def warm_up(self):
        pass

    def _begin(self, kind, picture):
        self.calls.append((kind, picture.digest))
        self.begun.release()
        assert self.gate.wait(20)
        if picture.digest in self.bad:
            raise self.bad[picture.digest]

    def encode(self, picture):
        pass

    def complete(self, request):
        self._begin("completion", request.picture)
        return Completed(labels=self.completed(request), seconds=0.01)

    def completed(self, request):
        base = None if request.base is None else request.base.tobytes()
        return labels_for(request.picture.digest, request.prompts, base)

    def match(self, requests, *, between=lambda: None):
        answers = []
        for request in requests:
            try:
                self._begin("matching", request.picture)
                between()
                answers.append(self.matched(request))
            except Exception as error:
                answers.append(error)
        return answers

    def matched(self, request):
        examples = request.examples
        content = [(e.picture.digest, e.class_id, e.labels.tobytes(), e.prompts) for e in examples.references]
        classes = {}
        for cid in sorted({example.class_id for example in examples.references}):
            parts = (request.picture.digest, cid, content, request.seed, sorted(examples.phrases.items()))
            absent = digest_of(*parts)[0] < 64
            classes[cid] = MatchedClass(
                labels=None if absent else labels_for(*parts),
                absent=absent,
                reason="nothing alike" if absent else None,
                score=0.5,
                resemblance=0.5,
                log_evidence=1.0,
                instances=0 if absent else 2,
                heat=np.full((5, 7), digest_of(*parts)[1], np.uint8),
            )
        return Matched(classes=classes, uncertainty=0.25, seconds=0.02)


def png(number: int, size=SIZE) -> bytes:
    """The file of a picture, another one for each number."""
    rng = np.random.default_rng(number)
    buffer = io.BytesIO()
    PIL.Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def new_id() -> str:
    return str(uuid.uuid4())


class Project:
    """A project in a folder, with shorthands."""

    def __init__(self, folder: Path):
        self.store = Store.open(folder)
        self.pictures = Pictures(folder)

    def run(self, command):
        return self.store.run(command, id=new_id())

    def picture(self, number: int) -> str:
        with self.pictures.incoming() as incoming:
            incoming.write(png(number))
            stored = incoming.finish()
        entry = self.store.add_image(f"{number}.png", stored, id=new_id())
        return next(key for key in entry.changes if key.startswith("image/")).partition("/")[2]

    def cls(self, name: str) -> str:
        entry = self.run(AddClass(name=name))
        return next(iter(entry.changes)).partition("/")[2]

    def point(self, iid: str, cid: str, x: float = 3.0, **more) -> str:
        command = {"image": iid, "class": cid, "prompt": Point(xy=(x, 4.0)), **more}
        entry = self.run(AddPrompt.model_validate(command))
        return next(key for key in entry.changes if key.startswith("prompt/")).split("/")[3]


def bad_file() -> InputError:
    return InputError("The picture cannot be read; put it back.")
