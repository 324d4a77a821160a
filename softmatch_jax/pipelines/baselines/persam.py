"""PerSAM (Zhang et al., ICLR 2024, arXiv 2305.03048), the training-free variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, Map, Mask
from softmatch_jax.models import MaskGenerator
from softmatch_jax.pipelines.baselines.rasters import union
from softmatch_jax.pipelines.baselines.scenes import baseline_settings, look, prior_for
from softmatch_jax.pipelines.one_class import Encodings, Found
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.pipelines.softmatcher import Softmatcher
from softmatch_jax.prompting import Annotation, Prompt, bounding_box


@dataclass(frozen=True, kw_only=True)
class PerSamConfig:
    """Settings of PerSAM.

    Attributes:
        rounds: Refinements: the first corrects the mask before it, later ones are also given its box.
    """

    rounds: int = 2

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise InputError(f"PerSamConfig.rounds is {self.rounds}; expected 0 or more.")


def cascade(
    generator: MaskGenerator, encoded: Encoded, first: Prompt, *, rounds: int, prior: Map | None
) -> Mask:
    """Decodes a prompt, and again with the mask so far, and again with its box besides.

    Of every answer the mask of the best score goes on; a round without an answer ends it.

    Args:
        generator: Decodes.
        encoded: The target.
        first: Two points.
        rounds: Refinements.
        prior: For generators that need one.
    """
    prompt, mask = first, np.zeros(encoded.image_size, bool)
    for number in range(rounds + 1):
        proposals = generator.decode(encoded.embedding, [prompt], prior=prior)
        if not len(proposals):
            break
        best = int(np.argmax(proposals.scores))
        found = union(proposals, np.array([best]))
        if not found.any():
            break
        mask = found
        box = None if number == 0 else bounding_box(mask)
        prompt = Prompt(first.points, first.positive, box, proposals.logits[best])
    return mask


@dataclass(frozen=True, eq=False)
class PerSam:
    """PerSAM without training, as an :class:`~softmatch_jax.pipelines.one_class.OneClass`.

    The patch most like the mean of the object is a positive point, the one least like it a negative one.
    What they mark is decoded, corrected by its own mask, and once more with its box.

    What differs from the publication: features are those of the feature extractor, not SAM's own, and of
    unit norm before their mean is taken; the likeness does not enter SAM's attention nor its tokens, which
    the protocol of mask generators keeps closed; and whether a refinement chooses among one mask or three is
    up to the generator (our SAM gives one where there are two points, unless told otherwise). The
    publication has one reference; of several, the mean is over all patches of their objects. Generators that
    take no points alone (GrabCut) also get the likeness as a prior, and heed the box but no earlier mask.

    Attributes:
        matcher: Holds the models, and the settings of completion and whitening.
        config: Settings.
        encodings: Remembers pictures.
    """

    matcher: Softmatcher
    config: PerSamConfig = field(default_factory=PerSamConfig)
    encodings: Encodings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encodings", Encodings(self.matcher))

    @property
    def name(self) -> str:
        """The method."""
        return "persam"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Models and all settings."""
        return baseline_settings(self.matcher, asdict(self.config))

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Found:
        """See :class:`~softmatch_jax.pipelines.one_class.OneClass`; nothing is drawn by the key."""
        encoded = self.encodings.encode(target)
        scene = look(self.matcher, self.encodings.references(references, self.matcher.reference), encoded)
        score = scene.likeness
        ends = scene.centres[[int(np.argmax(score)), int(np.argmin(score))]]
        generator = self.matcher.masks
        prior = prior_for(self.matcher, scene)
        prompt = Prompt(ends, np.array([True, False]))
        mask = cascade(generator, encoded, prompt, rounds=self.config.rounds, prior=prior)
        return Found(mask, not mask.any(), None if mask.any() else "the point was answered by no mask")
