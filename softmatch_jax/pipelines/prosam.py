"""ProSAM: an annotated example becomes prompts for SAM, which finds the same kind of object elsewhere."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from softmatch_jax._checks import InputError, check_image
from softmatch_jax._types import Image, Map, Mask
from softmatch_jax.models import FeatureExtractor, MaskGenerator, Storable
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.pipelines.clock import Clock
from softmatch_jax.pipelines.completing import complete_mask
from softmatch_jax.pipelines.config import ModelsConfig, SoftmatcherConfig
from softmatch_jax.pipelines.encoding import cached_embedding, cached_features
from softmatch_jax.pipelines.feature_cache import FeatureCache
from softmatch_jax.pipelines.merging import resolve_classes, split_instances
from softmatch_jax.pipelines.prosam_config import ProSamConfig
from softmatch_jax.pipelines.prosam_decoding import Decoded, decode
from softmatch_jax.pipelines.prosam_models import load_embedded, load_foundation
from softmatch_jax.pipelines.prosam_reference import (
    ProSamReference,
    annotated_pixels,
    by_class,
    picture_features,
)
from softmatch_jax.pipelines.reference import Encoded, check_models
from softmatch_jax.pipelines.segmentation import ClassSegmentation, Segmentation
from softmatch_jax.prompting import Annotation, MaskAnnotation, seeds, unpool_map


@dataclass(frozen=True)
class ProSAM:
    """Visual-prompt segmentation with a trained prompt encoder (ProSAM, Fig. 2; VRP-SAM).

    Holds models and settings, and no state: references are values that :meth:`reference` returns and
    :meth:`segment` takes.

    Attributes:
        predictor: Features, prompt encoder and frozen SAM.
        config: Settings.
        cache: Keeps what the models make of a picture, so that no picture is encoded twice.
        encoder: Says which prompt encoder it is, in results.

    Raises:
        InputError: Samples are to decide, and the encoder predicts no distribution.
    """

    predictor: Predictor
    config: ProSamConfig = field(default_factory=ProSamConfig)
    cache: FeatureCache | None = None
    encoder: str = "prompt encoder"

    def __post_init__(self) -> None:
        drawn = self.predictor.config.variational and self.predictor.distribution.family != "none"
        if not drawn and self.config.strategy != "mean":
            raise InputError(
                f"prosam.strategy is {self.config.strategy!r}, but this encoder predicts prompts and no "
                "distribution of them (VRP-SAM); expected 'mean'."
            )

    @classmethod
    def embedded(
        cls,
        weights: Path | None = None,
        config: ProSamConfig | None = None,
        *,
        sam_weights: Path | None = None,
        cache: FeatureCache | None = None,
    ) -> ProSAM:
        """The small SAM, its features and a prompt encoder for both: nothing is downloaded.

        Args:
            weights: Of the prompt encoder, as ``softmatch train prosam`` writes them; those that come with
                the package when ``None``. They say at which size the small SAM sees pictures.
            config: Settings; the defaults when ``None``.
            sam_weights: Of the small SAM, as ``softmatch train export`` writes them; those that come with
                the package when ``None``.
            cache: Keeps what the models make of a picture.

        Raises:
            InputError: Weights are missing, altered, damaged, of another network, or of an encoder that was
                trained with another SAM.
        """
        predictor, name = load_embedded(weights, sam_weights)
        return cls(predictor, config or ProSamConfig(), cache, name)

    @classmethod
    def foundation(
        cls,
        weights: Path,
        backbone: str | None = None,
        models: ModelsConfig | None = None,
        config: ProSamConfig | None = None,
    ) -> ProSAM:
        """SAM, a backbone that the encoder sees pictures with, and a prompt encoder for both.

        Args:
            weights: Of the prompt encoder.
            backbone: Which backbone; that which the weights name when ``None``.
            models: Which SAM, how it runs, and the cache; the rest of it is for Softmatcher.
            config: Settings; the defaults when ``None``.

        Raises:
            InputError: A package of the extra ``foundation`` is missing, a model cannot be found, or the
                encoder was trained with another one.
        """
        predictor, name, cache = load_foundation(weights, backbone, models or ModelsConfig())
        return cls(predictor, config or ProSamConfig(), cache, name)

    @property
    def features(self) -> FeatureExtractor:
        """What the encoder sees pictures with."""
        return self.predictor.features

    @property
    def masks(self) -> MaskGenerator:
        """The SAM."""
        return self.predictor.sam.generator

    def encode(self, image: Image) -> Encoded:
        """Runs the frozen models on a picture.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``, or its features are not finite.
        """
        check_image("image", image)
        return Encoded(
            self._models(),
            (image.shape[0], image.shape[1]),
            cached_features(self.features, image, self.cache),
            cached_embedding(self.masks, image, self.cache),
        )

    def _models(self) -> tuple[str, str, str]:
        masks = self.masks
        return self.features.name, masks.embedding_name if isinstance(masks, Storable) else masks.name, ""

    def reference(
        self,
        image: Image | Encoded,
        annotation: Annotation | Mask,
        *,
        class_name: str = "object",
        blind: bool = False,
    ) -> ProSamReference:
        """Encodes a picture and its annotation, once, for any number of targets.

        The annotation is used as the encoder was trained with it: a mask as it is, a box filled, strokes and
        points as the pixels they cover. ``config.complete`` grows what is no mask into one first.

        Args:
            image: ``uint8 [H, W, 3]``, or what :meth:`encode` returned for it.
            annotation: The object: any :data:`~softmatch_jax.prompting.Annotation`, or a
                ``bool [H, W]`` mask.
            class_name: What it is called. References that share a name make one class.
            blind: Whether an annotation that no cell of the features sees is taken, too, as the published
                evaluation takes it: the reference then says nothing.

        Raises:
            InputError: The annotation marks nothing, everything, something outside the picture, or so little
                that no cell of the features sees it.
        """
        if not class_name.strip():
            raise InputError("class_name is empty; expected a name, such as 'duck'.")
        encoded = image if isinstance(image, Encoded) else self.encode(image)
        check_models(self._models(), encoded)
        given = MaskAnnotation(annotation) if isinstance(annotation, np.ndarray) else annotation
        marked = seeds(given, encoded.image_size)
        if self.config.complete and not marked.exact:
            mask = complete_mask(encoded, marked, self.masks, SoftmatcherConfig())
        else:
            mask = annotated_pixels(marked)
        prompting = self.predictor.reference(picture_features(encoded.features), mask)
        if not blind and not np.any(prompting.mask):
            raise InputError(
                f"No cell of the features sees the annotation of class {class_name!r}; expected a larger one "
                "(or an encoder trained with to_grid='area')."
            )
        return ProSamReference(
            class_name=class_name, mask=mask, seeds=marked, encoded=encoded, prompting=prompting
        )

    def segment(
        self,
        target: Image | Encoded,
        references: Sequence[ProSamReference] | ProSamReference,
        *,
        key: jax.Array,
    ) -> Segmentation:
        """Finds the references' classes in a target.

        Args:
            target: ``uint8 [H, W, 3]``, or what :meth:`encode` returned for it.
            references: One or more, of one or more classes. The prompts of several of one class join.
            key: Random key of the samples; the same key gives the same result, and the mean prompt does not
                depend on it.

        Raises:
            InputError: The target is not a picture, there are no references, or other models encoded them.
        """
        if not isinstance(key, jax.Array):
            raise InputError(f"key is {key!r}; expected a random key, such as jax.random.key(0).")
        clock = Clock()
        chosen = [references] if isinstance(references, ProSamReference) else list(references)
        classes = by_class(chosen)
        clock.lap("references")
        encoded = target if isinstance(target, Encoded) else self.encode(target)
        check_models(self._models(), encoded, *[reference.encoded for reference in chosen])
        scene = self.predictor.sam.of(encoded.embedding, encoded.image_size)
        seen = picture_features(encoded.features)
        clock.lap("encode")
        found = []
        for name, own in classes.items():
            alike = [self.predictor.pseudo(each.prompting, seen) for each in own]
            pairs = zip(own, alike, strict=True)
            predicted = [self.predictor.prompts(each.prompting, seen, one) for each, one in pairs]
            pseudo = np.max(alike, axis=0)
            clock.lap("match")
            # By name, so that other classes beside it do not change a class's samples.
            drawn = jax.random.fold_in(key, zlib.crc32(name.encode()))
            decoded = decode(self.predictor, predicted, scene, self.config, key=drawn)
            found.append((name, decoded, np.clip(unpool_map(pseudo, encoded.features.grid), 0, 1)))
            clock.lap("decode")
        return self._assemble(found, encoded, clock)

    def _assemble(
        self, found: Sequence[tuple[str, Decoded, Map]], encoded: Encoded, clock: Clock
    ) -> Segmentation:
        """Lets classes compete for pixels, and separates instances."""
        maps = (decoded.large(decoded.logits) for _, decoded, _ in found)
        masks = [decoded.large(decoded.logits) > 0 for _, decoded, _ in found]
        labels = resolve_classes(masks, maps) if len(masks) > 1 else masks[0].astype(np.uint8)
        classes = tuple(
            _class_segmentation(name, index, decoded, likeness, masks[index - 1], labels, self.config)
            for index, (name, decoded, likeness) in enumerate(found, start=1)
        )
        for entry in classes:  # pieces too small to count go back to the background
            labels[(labels == entry.index) & ~entry.mask] = 0
        clock.lap("assemble")
        return Segmentation(
            image_size=encoded.image_size, classes=classes, labels=labels, timings=clock.seconds
        )


def _class_segmentation(
    name: str,
    index: int,
    decoded: Decoded,
    likeness: Map,
    decoded_mask: Mask,
    labels: np.ndarray,
    config: ProSamConfig,
) -> ClassSegmentation:
    """Separates the pixels a class has won into instances."""
    confidence, pixels = np.clip(decoded.large(decoded.confidence), 0, 1), labels == index
    pieces, instances = split_instances(pixels, confidence, min_area=config.min_area)
    mask = pieces > 0
    reason = None
    if not decoded_mask.any():
        reason = f"the mask that the prompts of {name!r} make is empty"
    elif not pixels.any():
        reason = f"whatever looks like {name!r} looks more like another class"
    elif not instances:
        reason = f"every piece of {name!r} is smaller than min_area={config.min_area:g} of the picture"
    return ClassSegmentation(
        name=name,
        index=index,
        mask=mask,
        instances=instances,
        instance_labels=pieces,
        match_map=likeness,
        confidence=confidence,
        log_evidence=float(np.log(max(float(likeness.mean(dtype=np.float64)), 1e-30))),
        resemblance=_resemblance(likeness, mask),
        points=np.zeros((0, 2), np.float32),
        clusters=np.zeros(0, np.int32),
        proposals=decoded.proposals,
        kept=np.arange(len(decoded.proposals)),
        absent=reason is not None,
        reason=reason,
        uncertainty=None
        if decoded.uncertainty is None
        else np.clip(decoded.large(decoded.uncertainty), 0, 1),
        disagreement=decoded.disagreement,
    )


def _resemblance(likeness: Map, mask: Mask) -> float:
    """Mean likeness of the find less that of its surroundings."""
    if not mask.any():
        return 0.0
    rest = likeness[~mask].mean(dtype=np.float64) if not mask.all() else 0.0
    return float(likeness[mask].mean(dtype=np.float64) - rest)
