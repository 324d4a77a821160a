"""Networks and classical models behind two protocols: features, and masks from prompts."""

from softmatch_jax.models.embedded import DenseDescriptor, DescriptorConfig, GrabCut, GrabCutConfig
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.protocols import FeatureExtractor, MaskGenerator, PatchFeatures, Storable

__all__ = [
    "DenseDescriptor",
    "DescriptorConfig",
    "FeatureExtractor",
    "GrabCut",
    "GrabCutConfig",
    "MaskGenerator",
    "PatchFeatures",
    "Proposals",
    "Storable",
]
