"""ProSAM as a method of an evaluation."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax

from softmatch_jax._checks import InputError, check_image
from softmatch_jax._types import Image
from softmatch_jax.pipelines.feature_cache import content_key
from softmatch_jax.pipelines.one_class import CLASS, Found
from softmatch_jax.pipelines.prosam import ProSAM
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.prompting import Annotation

_PICTURES = 16
"""Pictures whose encodings are kept; in an evaluation one is a target once and a reference at times."""


@dataclass(frozen=True, eq=False)
class ProSamOneClass:
    """A prompt encoder as an :class:`~softmatch_jax.pipelines.one_class.OneClass`.

    Attributes:
        prosam: The pipeline.
        name: What it is called in tables.
    """

    prosam: ProSAM
    name: str = "prosam"
    _kept: OrderedDict[str, Encoded] = field(default_factory=OrderedDict, init=False, repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Models, encoder and all settings of the pipeline."""
        pipeline = self.prosam
        models = {"features": pipeline.features.name, "masks": pipeline.masks.name}
        plain: dict[str, Any] = json.loads(
            json.dumps({**models, "encoder": pipeline.encoder, **asdict(pipeline.config)})
        )
        return plain

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Found:
        """See :class:`~softmatch_jax.pipelines.one_class.OneClass`."""
        if not references:
            raise InputError("There are no references; expected at least one picture with its annotation.")
        chosen = [
            self.prosam.reference(self._encode(image), annotation, class_name=CLASS, blind=True)
            for image, annotation in references
        ]
        found = self.prosam.segment(self._encode(target), chosen, key=key)[CLASS]
        return Found(found.mask, found.absent, found.reason)

    def _encode(self, image: Image) -> Encoded:
        check_image("image", image)
        if self.prosam.cache is not None:
            return self.prosam.encode(image)
        key = content_key(image, "one class")
        encoded = self._kept.pop(key, None)
        self._kept[key] = self.prosam.encode(image) if encoded is None else encoded
        while len(self._kept) > _PICTURES:
            self._kept.popitem(last=False)
        return self._kept[key]
