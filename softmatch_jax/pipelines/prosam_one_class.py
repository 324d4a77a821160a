"""ProSAM as a method of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax

from softmatch_jax._types import Image
from softmatch_jax.pipelines.one_class import CLASS, Encodings, Found
from softmatch_jax.pipelines.prosam import ProSAM
from softmatch_jax.prompting import Annotation


@dataclass(frozen=True, eq=False)
class ProSamOneClass:
    """A prompt encoder as an :class:`~softmatch_jax.pipelines.one_class.OneClass`.

    Attributes:
        prosam: The pipeline.
        name: What it is called in tables.
        encodings: Remembers pictures.
    """

    prosam: ProSAM
    name: str = "prosam"
    encodings: Encodings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encodings", Encodings(self.prosam))

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
        chosen = self.encodings.references(references, self.prosam.reference, blind=True)
        found = self.prosam.segment(self.encodings.encode(target), chosen, key=key)[CLASS]
        return Found(found.mask, found.absent, found.reason)
