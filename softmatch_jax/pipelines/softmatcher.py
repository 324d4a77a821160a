"""Softmatcher: one annotated example in, the same kind of object out of every other picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax._checks import InputError, check_finite, check_image
from softmatch_jax._types import Image, Mask
from softmatch_jax.models import DenseDescriptor, FeatureExtractor, GrabCut, MaskGenerator
from softmatch_jax.pipelines.completing import complete_mask
from softmatch_jax.pipelines.config import SoftmatcherConfig
from softmatch_jax.pipelines.match_step import match_step, resemblance_step
from softmatch_jax.pipelines.merging import resolve_classes, split_instances
from softmatch_jax.pipelines.proposing import Draft, propose
from softmatch_jax.pipelines.reference import (
    Encoded,
    Reference,
    check_same_models,
    make_reference,
    stack_references,
)
from softmatch_jax.pipelines.segmentation import ClassSegmentation, Segmentation
from softmatch_jax.prompting import Annotation, MaskAnnotation, pool_mask, seeds


@dataclass(frozen=True)
class Softmatcher:
    """Visual-prompt segmentation by soft matching (Softmatcher, Fig. 1).

    Holds two models and settings, and no state: references are values that :meth:`reference` returns
    and :meth:`segment` takes.

    Attributes:
        features: Maps pictures to patch features.
        masks: Turns prompts into masks.
        config: Settings.
    """

    features: FeatureExtractor
    masks: MaskGenerator
    config: SoftmatcherConfig = field(default_factory=SoftmatcherConfig)

    @classmethod
    def embedded(cls, config: SoftmatcherConfig | None = None) -> Softmatcher:
        """The pair that needs no weights: a dense colour and gradient descriptor, and GrabCut."""
        return cls(DenseDescriptor(), GrabCut(), config or SoftmatcherConfig())

    def encode(self, image: Image) -> Encoded:
        """Runs both models on a picture.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``, or its features are not finite.
        """
        check_image("image", image)
        features = self.features(image[None])
        check_finite(
            f"features from {self.features.name}",
            features.values,
            "expected finite features (the model or its weights are broken for this picture).",
        )
        height, width = image.shape[:2]
        return Encoded(
            (self.features.name, self.masks.name), (height, width), features, self.masks.encode(image)
        )

    def reference(
        self, image: Image | Encoded, annotation: Annotation | Mask, *, class_name: str = "object"
    ) -> Reference:
        """Encodes a picture and its annotation, once, for any number of targets.

        Scribbles, points, boxes and painted strokes are grown into a mask of the whole object; a mask is
        taken as it is (Softmatcher §3, step 1). To promote an output to a reference, hand in the target
        and its mask.

        Args:
            image: ``uint8 [H, W, 3]``, or what :meth:`encode` returned for it.
            annotation: The object: any :data:`~softmatch_jax.prompting.Annotation`, or a
                ``bool [H, W]`` mask.
            class_name: What it is called. References that share a name make one class.

        Raises:
            InputError: The annotation marks nothing, everything, or something outside the picture.
        """
        if not class_name.strip():
            raise InputError("class_name is empty; expected a name, such as 'duck'.")
        encoded = image if isinstance(image, Encoded) else self.encode(image)
        given = MaskAnnotation(annotation) if isinstance(annotation, np.ndarray) else annotation
        marked = seeds(given, encoded.image_size)
        mask = marked.foreground if marked.exact else complete_mask(encoded, marked, self.masks, self.config)
        return make_reference(class_name, mask, marked, encoded)

    def segment(
        self, target: Image | Encoded, references: Sequence[Reference] | Reference, *, key: jax.Array
    ) -> Segmentation:
        """Finds the references' classes in a target.

        Args:
            target: ``uint8 [H, W, 3]``, or what :meth:`encode` returned for it.
            references: One or more, of one or more classes.
            key: Random key; the same key gives the same result.

        Raises:
            InputError: The target is not a picture, there are no references, or another model encoded
                them.
        """
        if not isinstance(key, jax.Array):
            raise InputError(f"key is {key!r}; expected a random key, such as jax.random.key(0).")
        clock = _Clock()
        chosen = [references] if isinstance(references, Reference) else list(references)
        names, arrays = stack_references(chosen)
        clock.lap("references")
        encoded = target if isinstance(target, Encoded) else self.encode(target)
        check_same_models(chosen[0].encoded, encoded)
        clock.lap("encode")
        flat, valid = encoded.features.flat(), jnp.asarray(encoded.features.valid.ravel())
        factor = jnp.float32(self.config.decision.size_factor)
        matched = jax.device_get(match_step(arrays, flat, valid, factor, config=self.config.matching))
        clock.lap("match")
        drafts = []
        for row, row_key in enumerate(jax.random.split(key, len(names))):
            found, cut = jax.tree.map(lambda leaf, row=row: leaf[row], matched)
            drafts.append(propose(encoded, found, cut, self.masks, config=self.config, key=row_key))
        clock.lap("masks")
        shares = np.stack([pool_mask(draft.mask, encoded.features.grid).ravel() for draft in drafts])
        likeness = np.asarray(
            resemblance_step(arrays, flat, valid, jnp.asarray(shares), config=self.config.matching)
        )
        clock.lap("verify")
        evidence = matched[0].log_evidence
        return self._assemble(names, drafts, evidence, likeness, encoded, clock)

    def _assemble(
        self,
        names: Sequence[str],
        drafts: Sequence[Draft],
        log_evidence: np.ndarray,
        likeness: np.ndarray,
        encoded: Encoded,
        clock: _Clock,
    ) -> Segmentation:
        """Drops what is absent, lets classes compete for pixels, and separates instances."""
        decision = self.config.decision
        reasons = [
            _absence(draft, float(alike), decision.min_resemblance, name)
            for name, draft, alike in zip(names, drafts, likeness, strict=True)
        ]
        empty = np.zeros(encoded.image_size, bool)
        masks = [
            draft.mask if reason is None else empty for draft, reason in zip(drafts, reasons, strict=True)
        ]
        labels = resolve_classes(masks, [draft.probability for draft in drafts])
        classes = tuple(
            _class_segmentation(
                draft,
                labels == index,
                name=name,
                index=index,
                log_evidence=float(evidence),
                resemblance=float(alike),
                reason=reason,
                min_area=decision.min_area,
            )
            for index, (name, draft, evidence, alike, reason) in enumerate(
                zip(names, drafts, log_evidence, likeness, reasons, strict=True), start=1
            )
        )
        for entry in classes:  # pieces too small to count go back to the background
            labels[(labels == entry.index) & ~entry.mask] = 0
        clock.lap("merge")
        return Segmentation(
            image_size=encoded.image_size, classes=classes, labels=labels, timings=clock.seconds
        )


def _class_segmentation(
    draft: Draft,
    pixels: Mask,
    *,
    name: str,
    index: int,
    log_evidence: float,
    resemblance: float,
    reason: str | None,
    min_area: float,
) -> ClassSegmentation:
    """Separates the pixels a class has won into instances."""
    pieces, instances = split_instances(pixels, draft.probability, min_area=min_area)
    if reason is None and not instances:
        reason = f"every piece of {name!r} is smaller than min_area={min_area:g} of the picture"
    return ClassSegmentation(
        name=name,
        index=index,
        mask=pieces > 0,
        instances=instances,
        instance_labels=pieces,
        match_map=draft.probability,
        log_evidence=log_evidence,
        resemblance=resemblance,
        points=draft.points,
        clusters=draft.clusters,
        proposals=draft.proposals,
        absent=reason is not None,
        reason=reason,
    )


def _absence(draft: Draft, likeness: float, least: float, name: str) -> str | None:
    """Why the class seems absent, or None."""
    if not len(draft.proposals.masks):
        return f"no part of the target stands out as {name!r}"
    if not draft.mask.any():
        best = float(draft.proposals.scores.max())
        return f"no proposal for {name!r} scores above min_score (the best scores {best:.2f})"
    if likeness < least:
        return (
            f"the best match resembles {name!r} by {likeness:.3f}, below decision.min_resemblance={least:g}"
        )
    return None


class _Clock:
    """Wall-clock seconds between laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Books the time since the last lap under ``name``."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
