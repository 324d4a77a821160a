"""Settings of the Softmatcher pipeline; the command line is generated from these classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from softmatch_jax._checks import InputError, check_positive

Method = Literal[
    "geometric",
    "geometric_dense",
    "quadratic",
    "arithmetic",
    "cumulant",
    "bidirectional",
    "random_features",
    "sinkhorn",
    "hungarian",
]
"""The methods of :mod:`softmatch_jax.matching`, named here so that help need not wait for JAX."""

WHITENED = ("geometric", "arithmetic")
"""The methods that go together with whitening."""


Sampler = Literal["top_k", "multinomial"]
Prompts = Literal["clusters", "points"]
Grouping = Literal["overlap", "graph"]
Instances = Literal["components", "groups"]
Runtime = Literal["jax", "torch"]


def _check_choice(owner: str, value: str, choices: object) -> None:
    options = get_args(choices)
    if value not in options:
        *most, last = (repr(option) for option in options)
        raise InputError(f"{owner} is {value!r}; expected {', '.join(most)} or {last}.")


def _check_fractions(owner: str, settings: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise InputError(f"{owner}.{name} is {value}; expected a fraction in [0, 1].")


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How reference and target features are compared.

    Attributes:
        method: geometric is the paper's large-regularisation limit in its exact linear-time form;
            arithmetic keeps a mode for every part of the object and costs references x targets. The
            others need features that are not whitened; sinkhorn needs the extra transport.
        temperature: Softmax temperature tau. With the geometric method the cut adapts to it. The
            log-evidence depends on it, and so do the points that the multinomial sampler draws, and through
            these the masks may.
        whiten: Whiten features on the joint statistics of references and target first. Meant for
            hand-made descriptors; learned features need none.
        shrinkage: How far the covariance is drawn to its diagonal, in (0, 1]. Used with whitening only.
        verify_shrinkage: The same when the find is compared with the references. Stronger, because
            whitening in full blows up weak channels, and these change with resolution and noise. Used with
            whitening only.
        target_share: Share of the target's own mean in the background that the object is contrasted
            with, in [0, 1]. Used with whitening only.
        contrast: Contrast the object with its surroundings on the references. The paper matches the
            object alone; without whitening it may be turned off.
        text_weight: Weight of a text prompt's map in the geometric mean with the match map, in [0, 1).
        text_temperature: Softmax temperature of the text prompt's map.
    """

    method: Method = "geometric"
    temperature: float = 0.1
    whiten: bool = True
    shrinkage: float = 0.1
    verify_shrinkage: float = 0.9
    target_share: float = 0.5
    contrast: bool = True
    text_weight: float = 0.5
    text_temperature: float = 0.01

    def __post_init__(self) -> None:
        check_positive("matching.temperature", self.temperature)
        check_positive("matching.text_temperature", self.text_temperature)
        _check_choice("matching.method", self.method, Method)
        if self.whiten and (self.method not in WHITENED or not self.contrast):
            raise InputError(
                f"matching has whiten=True, method={self.method!r} and contrast={self.contrast}; expected "
                f"contrast and {' or '.join(WHITENED)} with whitening (or turn whiten off)."
            )
        if not 0 <= self.text_weight < 1:
            raise InputError(f"matching.text_weight is {self.text_weight}; expected a number in [0, 1).")
        for name in ("shrinkage", "verify_shrinkage"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"matching.{name} is {getattr(self, name)}; expected a number in (0, 1].")
        if not 0 <= self.target_share <= 1:
            raise InputError(f"matching.target_share is {self.target_share}; expected a number in [0, 1].")


@dataclass(frozen=True, kw_only=True)
class PromptingConfig:
    """How the match map becomes prompts.

    Attributes:
        sampler: top_k takes the best patches with spatial suppression; multinomial draws from
            the map without replacement, as the paper does.
        points: Most points taken.
        radius: Patches within this distance of a taken point are passed over (top_k only).
        clusters: Most clusters the points are grouped into; each becomes one prompt.
        prompts: clusters makes one prompt of each cluster, as the paper does; points makes one of each
            point, as GF-SAM does.
    """

    sampler: Sampler = "top_k"
    points: int = 128
    radius: float = 3.0
    clusters: int = 8
    prompts: Prompts = "clusters"

    def __post_init__(self) -> None:
        _check_choice("prompting.sampler", self.sampler, Sampler)
        _check_choice("prompting.prompts", self.prompts, Prompts)
        check_positive("prompting.points", self.points)
        check_positive("prompting.clusters", self.clusters)
        if self.radius < 0:
            raise InputError(f"prompting.radius is {self.radius}; expected a distance in patches, 0 or more.")


@dataclass(frozen=True, kw_only=True)
class DecisionConfig:
    """How the map is cut, and when a find counts.

    Attributes:
        sharpness: Slope of the logistic that turns scores into probabilities, per standard deviation
            of the scores.
        size_factor: How many times smaller or larger than on the references an object may be, as a
            fraction of the picture. It bounds where the score map is cut. Where every picture has one object,
            4 finds small and thin ones better; one reference for dozens of objects needs 16 and more.
        min_score: Proposals whose own score (SAM's predicted IoU) is below this are discarded.
        min_stability: So are those that depend on the threshold by more than this allows.
        min_purity: And those of which less than this fraction lies where the map sees the object.
        min_coverage: And those that hold less than this fraction of what the map sees.
        min_evidence: And those whose mean probability in the map is below this.
        grouping: How proposals become objects. overlap takes the best one and what overlaps with it, then
            the best of the rest; graph joins two where a point of one's prompt lies in the other's mask (one
            direction suffices), and judges what hangs together by purity, coverage and evidence (GF-SAM).
        max_overlap: Proposals that overlap by more than this (intersection over the smaller) are of one
            object.
        instances: Separate objects are the connected components of the class mask, or those of each group:
            the groups tell touching objects apart.
        min_area: Instances smaller than this fraction of the picture are dropped.
        min_resemblance: The object is reported absent when what was found resembles it less than this.
            One is the same distribution of patches, zero is no nearer than the surroundings.
    """

    sharpness: float = 3.0
    size_factor: float = 16.0
    min_score: float = 0.5
    min_stability: float = 0.0
    min_purity: float = 0.0
    min_coverage: float = 0.0
    min_evidence: float = 0.0
    grouping: Grouping = "overlap"
    max_overlap: float = 0.5
    instances: Instances = "components"
    min_area: float = 1e-4
    min_resemblance: float = 0.45

    def __post_init__(self) -> None:
        check_positive("decision.sharpness", self.sharpness)
        if not self.size_factor >= 1:
            raise InputError(f"decision.size_factor is {self.size_factor}; expected 1 or more.")
        least = ("min_score", "min_stability", "min_purity", "min_coverage", "min_evidence", "min_area")
        _check_fractions("decision", self, (*least, "max_overlap"))
        _check_choice("decision.grouping", self.grouping, Grouping)
        _check_choice("decision.instances", self.instances, Instances)
        if not self.min_resemblance <= 1:
            raise InputError(
                f"decision.min_resemblance is {self.min_resemblance}; expected a number of at most 1."
            )


@dataclass(frozen=True, kw_only=True)
class CompletionConfig:
    """How scribbles become a reference mask with a generator that takes points (SAM).

    Attributes:
        points: Most points taken from the strokes of each sign.
        rounds: Most corrections: a point where the mask contradicts the strokes, and another decode. They
            end when one brings no gain.
    """

    points: int = 6
    rounds: int = 3

    def __post_init__(self) -> None:
        check_positive("completion.points", self.points)
        if self.rounds < 0:
            raise InputError(f"completion.rounds is {self.rounds}; expected 0 or more.")


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Which foundation models to load, and how they run.

    Attributes:
        features: DINOv2, for matching: a model of the hub or a folder.
        features_revision: Its commit, tag or branch.
        masks: SAM, for masks: a model of the hub, a folder, or a .pth file of segment-anything.
        masks_revision: Its commit, tag or branch.
        text_model: CLIP, for text prompts: a model of the hub or a folder; none is loaded when left out.
        text_model_revision: Its commit, tag or branch.
        size: Side in pixels of what DINOv2 sees, a multiple of 14. Larger finds smaller things.
        fit: stretch brings pictures to a square, as the papers do; aspect keeps their shape.
        layer: DINOv2's layer that features are taken from, counted from the end when negative.
        norm: Apply DINOv2's last LayerNorm.
        runtime: What runs SAM's image encoder: jax, or torch. DINOv2 and CLIP run in torch.
        device: Where the encoders run: auto, cpu, cuda, cuda:N, or with torch alone mps.
        dtype: Their precision: auto (half on a GPU), float32, float16 or bfloat16.
        offline: Look for models on this machine only.
        cache: Folder that remembers what the encoders made of pictures; in memory only when left out.
        cache_half: Remember in half precision, at half the size.
        cache_limit_mb: Megabytes (10^6 bytes) that the files in the cache folder may take; what was not used
            for longest goes first. No bound when left out.
        chunk: Prompts that SAM's decoder computes together; fewer take less of an accelerator's memory.
            The platform's own number when left out.
    """

    features: str = "facebook/dinov2-base"
    features_revision: str | None = None
    masks: str = "facebook/sam-vit-base"
    masks_revision: str | None = None
    text_model: str | None = None
    text_model_revision: str | None = None
    size: int = 518
    fit: Literal["stretch", "aspect"] = "stretch"
    layer: int = -1
    norm: bool = True
    runtime: Runtime = "jax"
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    cache: Path | None = None
    cache_half: bool = False
    cache_limit_mb: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        _check_choice("models.runtime", self.runtime, Runtime)
        for name in ("cache_limit_mb", "chunk"):
            if getattr(self, name) is not None:
                check_positive(f"models.{name}", getattr(self, name))
        if self.cache_limit_mb is not None and self.cache is None:
            raise InputError(
                f"models.cache_limit_mb is {self.cache_limit_mb} and there is no cache to bound; expected a "
                "folder as models.cache with it (or leave it out)."
            )


@dataclass(frozen=True, kw_only=True)
class SoftmatcherConfig:
    """Settings of the whole pipeline; the defaults are those of the embedded pair of models.

    Attributes:
        matching: How features are compared.
        prompting: How the match map becomes prompts.
        decision: How the map is cut, and when a find counts.
        completion: How scribbles become a reference mask.
    """

    matching: MatchingConfig = field(default_factory=MatchingConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    completion: CompletionConfig = field(default_factory=CompletionConfig)

    @classmethod
    def embedded(cls, masks: str = "grabcut") -> SoftmatcherConfig:
        """Settings for the models that come with the package.

        Args:
            masks: What makes masks, as :meth:`Softmatcher.embedded` names it. The small SAM (tiny) answers
                points off the object as surely as others, so its masks must lie where the map sees the
                object. GrabCut is given the map and needs no such bar.
        """
        return cls(decision=DecisionConfig(min_evidence=0.6)) if masks == "tiny" else cls()

    @classmethod
    def foundation(cls) -> SoftmatcherConfig:
        """Settings for DINOv2 and SAM: sampled and clustered points, one prompt a cluster.

        They are after the paper's Fig. 1, with the object contrasted with its surroundings and with bars
        of our own; none of them tuned on public weights yet.
        """
        return cls(
            matching=MatchingConfig(whiten=False),
            prompting=PromptingConfig(sampler="multinomial", points=40),
            decision=DecisionConfig(
                min_stability=0.6,
                min_purity=0.3,
                min_resemblance=0.3,
                instances="groups",
            ),
        )

    @classmethod
    def graph(cls) -> SoftmatcherConfig:
        """The variant after GF-SAM: one point, one decode, groups by who lies in whose mask.

        Contrast and bars are our own here, too, and none of them tuned on public weights yet.
        """
        return cls(
            matching=MatchingConfig(whiten=False),
            prompting=PromptingConfig(sampler="top_k", radius=1.0, points=64, prompts="points"),
            decision=DecisionConfig(
                min_stability=0.6,
                min_purity=0.5,
                min_resemblance=0.3,
                grouping="graph",
                instances="groups",
            ),
        )
