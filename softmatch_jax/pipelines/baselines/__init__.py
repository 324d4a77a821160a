"""Published methods made anew, training-free, over any pair of models, to stand beside ours.

- :class:`Matcher`: forward and reverse assignment, sampled prompts, masks scored by transport.
- :class:`PerSam`: the mean of the object, one positive and one negative point, two refinements.
- :class:`GfSam`: one mask for each point, grouped and gated by graph and maps.

They share with ours the models, the completion of scribbles to a mask and, where our settings ask for it,
the whitening of the features. What differs from the publications is said in each class.
"""

from softmatch_jax.pipelines.baselines.gf_sam import GfSam, GfSamConfig
from softmatch_jax.pipelines.baselines.matcher import Matcher, MatcherConfig
from softmatch_jax.pipelines.baselines.persam import PerSam, PerSamConfig

__all__ = ["GfSam", "GfSamConfig", "Matcher", "MatcherConfig", "PerSam", "PerSamConfig"]
