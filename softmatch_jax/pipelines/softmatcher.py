"""Softmatcher: one annotated example in, the same kind of object out of every other picture."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax._checks import InputError, check_image
from softmatch_jax._types import Image, Mask
from softmatch_jax.models import FeatureExtractor, MaskGenerator, Storable
from softmatch_jax.pipelines.assembling import assemble
from softmatch_jax.pipelines.clock import Clock
from softmatch_jax.pipelines.completing import complete_mask
from softmatch_jax.pipelines.config import ModelsConfig, SoftmatcherConfig
from softmatch_jax.pipelines.embedded import EmbeddedFeatures, EmbeddedMasks, embedded_models
from softmatch_jax.pipelines.encoding import cached_embedding, cached_features
from softmatch_jax.pipelines.feature_cache import FeatureCache
from softmatch_jax.pipelines.foundation import load_models
from softmatch_jax.pipelines.locating import TextFactor, locate
from softmatch_jax.pipelines.match_step import resemblance_step
from softmatch_jax.pipelines.proposing import propose
from softmatch_jax.pipelines.reference import (
    Encoded,
    Reference,
    check_models,
    make_reference,
)
from softmatch_jax.pipelines.reference_set import ReferenceSet, check_joined, join_references
from softmatch_jax.pipelines.segmentation import Segmentation
from softmatch_jax.pipelines.texts import TextModel, text_factor
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
        text: Compares pictures with phrases, where text prompts are wanted.
        cache: Keeps what the models make of a picture, so that no picture is encoded twice.
    """

    features: FeatureExtractor
    masks: MaskGenerator
    config: SoftmatcherConfig = field(default_factory=SoftmatcherConfig)
    text: TextModel | None = None
    cache: FeatureCache | None = None

    @classmethod
    def embedded(
        cls,
        config: SoftmatcherConfig | None = None,
        *,
        stride: int = 4,
        masks: EmbeddedMasks = "grabcut",
        features: EmbeddedFeatures = "descriptor",
        weights: Path | None = None,
    ) -> Softmatcher:
        """The models that come with the package, so that nothing is to be downloaded.

        By default these are a dense colour and gradient descriptor, and GrabCut, which have no weights.

        Args:
            config: Settings; those of :meth:`SoftmatcherConfig.embedded` when ``None``.
            stride: Distance between patches of the descriptor, in pixels of a picture whose longer side is
                448, which it divides.
            masks: What makes masks: grabcut, tiny (a small SAM), or both, whose masks compete.
            features: What is matched: descriptor, tiny (features of the small SAM), or joined, both side by
                side.
            weights: Of the small SAM, as ``softmatch train export`` writes them; those that come with the
                package when ``None``.

        Raises:
            InputError: ``stride`` does not divide 448, there is no such model, or the weights of the small
                SAM are missing, altered or of another model.
        """
        extractor, generator = embedded_models(stride=stride, masks=masks, features=features, weights=weights)
        return cls(extractor, generator, config or SoftmatcherConfig.embedded(masks))

    @classmethod
    def foundation(
        cls, models: ModelsConfig | None = None, config: SoftmatcherConfig | None = None, **changes: Any
    ) -> Softmatcher:
        """DINOv2 and SAM, the paper's models; CLIP where text prompts are wanted.

        Args:
            models: Which models, and how they run.
            config: Settings; :meth:`SoftmatcherConfig.foundation` when ``None``.
            changes: Fields of :class:`ModelsConfig` to change, such as ``masks="facebook/sam-vit-huge"``.

        Raises:
            InputError: A package of the extra ``foundation`` is missing, or a model cannot be found.
        """
        loaded = load_models(replace(models or ModelsConfig(), **changes))
        settings = config or SoftmatcherConfig.foundation()
        return cls(loaded.features, loaded.masks, settings, loaded.text, loaded.cache)

    def encode(self, image: Image) -> Encoded:
        """Runs both models on a picture.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``, or its features are not finite.
        """
        check_image("image", image)
        size = (image.shape[0], image.shape[1])
        return Encoded(
            self._models(),
            size,
            cached_features(self.features, image, self.cache),
            cached_embedding(self.masks, image, self.cache),
            None if self.text is None else cached_features(self.text, image, self.cache),
        )

    def _models(self) -> tuple[str, str, str]:
        """What decides an encoded picture; settings of decoding do not."""
        masks, text = self.masks, self.text
        generator = masks.embedding_name if isinstance(masks, Storable) else masks.name
        return self.features.name, generator, "" if text is None else text.name

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
        check_models(self._models(), encoded)
        given = MaskAnnotation(annotation) if isinstance(annotation, np.ndarray) else annotation
        marked = seeds(given, encoded.image_size)
        mask = marked.foreground if marked.exact else complete_mask(encoded, marked, self.masks, self.config)
        return make_reference(class_name, mask, marked, encoded)

    def join(self, references: Sequence[Reference] | Reference) -> ReferenceSet:
        """Puts references together once, for many calls of :meth:`segment`.

        Args:
            references: One or more, of one or more classes.

        Raises:
            InputError: There are none, too many classes, or another model encoded one.
        """
        chosen = [references] if isinstance(references, Reference) else list(references)
        check_models(self._models(), *[reference.encoded for reference in chosen])
        return join_references(chosen, self.config.matching)

    def segment(
        self,
        target: Image | Encoded,
        references: Sequence[Reference] | Reference | ReferenceSet,
        *,
        key: jax.Array,
        texts: Mapping[str, str] | None = None,
        between: Callable[[], None] | None = None,
    ) -> Segmentation:
        """Finds the references' classes in a target.

        Args:
            target: ``uint8 [H, W, 3]``, or what :meth:`encode` returned for it.
            references: One or more, of one or more classes; or what :meth:`join` made of them.
            key: Random key; the same key gives the same result.
            texts: A phrase for some of the classes, whose map joins the match map
                (``matching.text_weight``).
            between: Called after every stage, so that more urgent work need not wait for all of them; what
                it raises ends the call.

        Raises:
            InputError: The target is not a picture, there are no references, another model encoded
                them, or there is a text and no model for it.
        """
        if not isinstance(key, jax.Array):
            raise InputError(f"key is {key!r}; expected a random key, such as jax.random.key(0).")
        clock = Clock(between)
        matching, size_factor = self.config.matching, self.config.decision.size_factor
        joined = references if isinstance(references, ReferenceSet) else self.join(references)
        names, arrays = joined.names, joined.arrays
        clock.lap("references")
        encoded = target if isinstance(target, Encoded) else self.encode(target)
        check_models(self._models(), encoded)
        check_joined(joined, self._models(), matching)
        clock.lap("encode")
        text = self._text_factor(texts, names, encoded)
        matched = locate(
            arrays, joined.states, encoded.features, config=matching, size_factor=size_factor, text=text
        )
        clock.lap("match")
        drafts = []
        for row, name in enumerate(names):
            found, cut = jax.tree.map(lambda leaf, row=row: leaf[row], matched)
            # By name, so that other classes beside it do not move a class's points.
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            drafts.append(propose(encoded, found, cut, self.masks, config=self.config, key=own, clock=clock))
        shares = np.stack([pool_mask(draft.merged.mask, encoded.features.grid).ravel() for draft in drafts])
        flat, valid = encoded.features.flat(), jnp.asarray(encoded.features.valid.ravel())
        likeness = np.asarray(resemblance_step(arrays, flat, valid, jnp.asarray(shares), config=matching))
        clock.lap("verify")
        evidence = np.asarray(matched[0].log_evidence)
        classes, labels = assemble(names, drafts, evidence, likeness, encoded, self.config.decision)
        clock.lap("assemble")
        return Segmentation(
            image_size=encoded.image_size, classes=classes, labels=labels, timings=clock.seconds
        )

    def _text_factor(
        self, texts: Mapping[str, str] | None, names: Sequence[str], encoded: Encoded
    ) -> TextFactor | None:
        """The maps of the text prompts, if there are any."""
        if not texts:
            return None
        if self.text is None or encoded.text_features is None or encoded.models[2] != self.text.name:
            raise InputError(
                "A text prompt was given, but the target was not encoded by this text model; expected a "
                "Softmatcher with one (Softmatcher.foundation(text_model='openai/clip-vit-base-patch32'))."
            )
        grid = encoded.features.grid
        return text_factor(texts, names, self.text, encoded.text_features, grid, self.config.matching)
