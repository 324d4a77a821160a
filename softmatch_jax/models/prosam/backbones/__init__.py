"""The frozen image encoders of the prompt encoder: ResNet-50, VGG-16 and DINOv2.

Each is a :class:`~softmatch_jax.models.FeatureExtractor` whose values are two of the network's layers side by
side, and goes deeper where the likeness of two pictures is measured (``Deepens``).
"""

from softmatch_jax.models.prosam.backbones.convolutional import ConvFeatures
from softmatch_jax.models.prosam.backbones.dinov2_split import Dinov2Split
from softmatch_jax.models.prosam.backbones.loading import BackboneKind, load_backbone

__all__ = ["BackboneKind", "ConvFeatures", "Dinov2Split", "load_backbone"]
