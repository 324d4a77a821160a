"""The embedded pair: a dense descriptor and GrabCut. No weights, nothing to download."""

from typing import TYPE_CHECKING

from softmatch_jax.models.embedded.descriptor import DenseDescriptor, DescriptorConfig, describe
from softmatch_jax.models.embedded.grabcut import GrabCut, GrabCutConfig

if TYPE_CHECKING:  # the type checker holds the pair to its protocols
    from softmatch_jax.models.protocols import FeatureExtractor, MaskGenerator

    _extractor: FeatureExtractor = DenseDescriptor()
    _generator: MaskGenerator = GrabCut()

__all__ = ["DenseDescriptor", "DescriptorConfig", "GrabCut", "GrabCutConfig", "describe"]
