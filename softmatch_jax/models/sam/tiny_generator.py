"""The tiny model as a mask generator: pictures and prompts of the user's coordinates in, proposals out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_finite, check_image, check_shape
from softmatch_jax._types import Image, Map, Size
from softmatch_jax.models.preprocessing import PREPROCESSING
from softmatch_jax.models.proposals import Proposals, stability_scores
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.generator import STABILITY_OFFSET, Masks
from softmatch_jax.models.sam.mask_decoder import Fine, MaskDecoder
from softmatch_jax.models.sam.prompt_batch import pad_tokens
from softmatch_jax.models.sam.prompt_encoder import PromptEncoder, point_tokens
from softmatch_jax.models.sam.tiny_encoder import TinyFeatures
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.prompting import Prompt

STRIDE = 4
"""Pixels of the square along a cell of the masks' raster."""

CERTAIN = 1e-3
"""A prior counts as at most this sure, so that its logits stay finite."""


@dataclass(frozen=True, kw_only=True)
class TinySamConfig:
    """Settings of the tiny model as a mask generator.

    Attributes:
        masks: Masks for each prompt. single is the one for prompts that are clear (several points, a box,
            a correction), multiple the three for prompts that are not (a single point), and auto goes by
            the prompt.
        size: Pixels that a picture's longer side is resized to; a multiple of 16 up to 256.
        flips: Whether the mirrored picture is asked, too, and logits are averaged. Takes twice the time.
        use_prior: Whether a prior goes along as the mask that is to be corrected, where the prompt has none.
            Such a prompt is clear.

    Raises:
        InputError: A value is out of range.
    """

    masks: Masks = "auto"
    size: int = 256
    flips: bool = False
    use_prior: bool = False

    def __post_init__(self) -> None:
        if self.masks not in get_args(Masks):
            raise InputError(f"TinySamConfig.masks is {self.masks!r}; expected {', '.join(get_args(Masks))}.")
        SamConfig.tiny(self.size)  # which checks it


@dataclass(frozen=True, eq=False)
class TinyEmbedding:
    """A picture as the tiny model sees it.

    Attributes:
        views: Features of the picture, and of its mirror image where that is asked, too.
        content: ``(h, w)`` that the picture has within the square.
        image_size: ``(H, W)`` of the picture.
    """

    views: tuple[TinyFeatures, ...]
    content: Size
    image_size: Size


class TinySam:
    """The shipped :class:`~softmatch_jax.models.MaskGenerator` that takes points; made by :meth:`load`.

    Threads may share one.

    Attributes:
        config: Settings.
        network: The model.
    """

    def __init__(
        self,
        model: TinyNetwork | Mapping[str, Any],
        config: TinySamConfig | None = None,
        *,
        masks: Masks | None = None,
    ) -> None:
        """Puts a generator together.

        Args:
            model: The network, or its weights by name.
            config: Settings; the defaults when ``None``.
            masks: Takes the place of ``config.masks`` where it is given.

        Raises:
            InputError: The network is for another size than the settings say.
        """
        config = config or TinySamConfig()
        self.config = config if masks is None else replace(config, masks=masks)
        network = model if isinstance(model, TinyNetwork) else TinyNetwork(model, size=config.size)
        self.network = network
        if network.config.image_size != self.config.size:
            raise InputError(
                f"TinySamConfig.size is {self.config.size}, but the network is for "
                f"{network.config.image_size}; expected the same (TinySam.load sees to it)."
            )

    @classmethod
    def load(
        cls, path: Path | None = None, *, config: TinySamConfig | None = None, masks: Masks | None = None
    ) -> TinySam:
        """Loads weights.

        Args:
            path: A file of :func:`~softmatch_jax.models.sam.tiny_weights.save_weights`; the shipped one when
                ``None``.
            config: Settings; the defaults when ``None``.
            masks: Takes the place of ``config.masks`` where it is given.

        Raises:
            InputError: The file cannot be used.
        """
        config = config or TinySamConfig()
        return cls(TinyNetwork.load(path, size=config.size), config, masks=masks)

    @property
    def name(self) -> str:
        """Weights and settings in one line."""
        return f"{self.embedding_name[:-1]}, masks={self.config.masks}, use_prior={self.config.use_prior})"

    @property
    def embedding_name(self) -> str:
        """What decides an embedding: the weights, the size, and whether it is also mirrored."""
        config = self.config
        return (
            f"tiny-sam({self.network.source}, size={config.size}, flips={config.flips}, "
            f"preprocessing={PREPROCESSING})"
        )

    @property
    def promptable(self) -> bool:
        """True: points alone mark an object."""
        return True

    def encode(self, image: Image) -> TinyEmbedding:
        """Runs the image encoder.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        check_image("image", image)
        size = (image.shape[0], image.shape[1])
        content = self.network.content(size)
        images = [image, image[:, ::-1]] if self.config.flips else [image]
        return TinyEmbedding(tuple(self.network.encode(view, content) for view in images), content, size)

    def pack(self, embedding: TinyEmbedding) -> dict[str, np.ndarray]:
        """The embedding as named arrays, for a cache."""
        flat = [{**view._asdict(), **view.fine._asdict()} for view in embedding.views]
        return {name: np.stack([each[name] for each in flat]) for name in flat[0] if name != "fine"}

    def unpack(self, arrays: Mapping[str, np.ndarray], image_size: Size) -> TinyEmbedding:
        """The embedding of a picture of ``image_size``, from what :meth:`pack` returned."""
        views = []
        for index in range(len(arrays["rows"])):
            each = {name: jnp.asarray(array[index], jnp.float32) for name, array in arrays.items()}
            fine = Fine(*(each.pop(name) for name in Fine._fields))
            views.append(TinyFeatures(fine=fine, **each))
        return TinyEmbedding(tuple(views), self.network.content(image_size), image_size)

    def parts(self) -> tuple[PromptEncoder, MaskDecoder]:
        """Prompt encoder and mask decoder, for who prompts with embeddings."""
        model = self.network.model()
        return model.prompt_encoder, model.mask_decoder

    def scene(self, embedding: TinyEmbedding) -> tuple[Array, Fine]:
        """The image embedding's rows and the finer features of a picture, not of its mirror image."""
        view = embedding.views[0]
        return view.rows, view.fine

    def raster(self, image_size: Size) -> Proposals:
        """No proposals, on the raster that those of a picture of ``image_size`` ``(H, W)`` lie on."""
        side = 4 * self.network.config.embedding_size
        blank, content = Proposals.empty((side, side)), self.network.content(image_size)
        return replace(blank, image_size=image_size, content=content, scale=STRIDE)

    def decode(
        self, embedding: TinyEmbedding, prompts: Sequence[Prompt], *, prior: Map | None = None
    ) -> Proposals:
        """Masks for prompts; see :class:`~softmatch_jax.models.MaskGenerator`.

        Args:
            embedding: From :meth:`encode`.
            prompts: Points, boxes, earlier logits to be corrected, in any combination.
            prior: Passed over but for ``config.use_prior``: the model was trained on its own masks as
                prompts, not on maps of this kind.

        Raises:
            InputError: No prompts, logits that are not of this raster, or a prior of another size.
        """
        if not prompts:
            raise InputError("decode got no prompts; expected at least one.")
        raster = self.raster(embedding.image_size)
        earlier = self._earlier(raster, prompts, prior if self.config.use_prior else None)
        logits, iou = self._ask(embedding, embedding.views[0], prompts, earlier)
        for mirrored in embedding.views[1:]:  # one, or none
            width = embedding.content[1]
            reversed_prompts = [_mirrored(prompt, embedding.image_size[1]) for prompt in prompts]
            others = self._ask(embedding, mirrored, reversed_prompts, mirror_raster(earlier, width))
            logits, iou = (logits + mirror_raster(others[0], width)) / 2, (iou + others[1]) / 2
        given = self.config.use_prior and prior is not None
        wanted = [self._wanted(prompt, given) for prompt in prompts]
        owners = np.repeat(np.arange(len(prompts), dtype=np.int32), [len(masks) for masks in wanted])
        chosen = owners, np.concatenate(wanted)
        picked = _extended(logits[chosen], embedding.content)
        stability = stability_scores(picked, raster.inside, STABILITY_OFFSET)
        return replace(raster, logits=picked, scores=iou[chosen], stability=stability, prompts=owners)

    def _wanted(self, prompt: Prompt, guided: bool) -> list[int]:
        """The masks that a prompt wants."""
        clear = len(prompt.points) > 1 or prompt.box is not None or prompt.logits is not None or guided
        single = clear if self.config.masks == "auto" else self.config.masks == "single"
        return [0] if single else list(range(1, self.network.config.mask_tokens))

    def _earlier(
        self, raster: Proposals, prompts: Sequence[Prompt], prior: Map | None
    ) -> Float[np.ndarray, "P s s"]:
        """The logits that each prompt corrects, all zero where there are none."""
        shape = raster.logits.shape[1:]
        standard = np.zeros(shape, np.float32)
        if prior is not None:
            check_shape("prior", prior, raster.image_size, "one probability per pixel of the picture")
            check_finite("prior", prior, "expected a probability for every pixel.")
            likely = np.clip(raster.reduce(prior), CERTAIN, 1 - CERTAIN)
            standard = np.log(likely / (1 - likely)).astype(np.float32)
        for prompt in prompts:
            if prompt.logits is not None:
                check_shape("Prompt.logits", prompt.logits, shape, "the raster of the model's own proposals")
        each = [standard if prompt.logits is None else prompt.logits for prompt in prompts]
        # As in training, an earlier mask ends with the picture.
        return np.stack(each).astype(np.float32) * raster.inside

    def _ask(
        self,
        embedding: TinyEmbedding,
        view: TinyFeatures,
        prompts: Sequence[Prompt],
        earlier: Float[np.ndarray, "P s s"],
    ) -> tuple[Float[np.ndarray, "P 4 s s"], Float[np.ndarray, "P 4"]]:
        """All masks of all prompts."""
        ratio = np.divide(embedding.content, embedding.image_size)[::-1].astype(np.float32)
        tokens = []
        for prompt in prompts:
            box = None if prompt.box is None else (np.reshape(prompt.box, (2, 2)) * ratio).ravel()
            tokens.append(point_tokens(prompt.points * ratio, prompt.positive, box))
        xy, labels, _ = pad_tokens(tokens, len(tokens))
        return self.network.decode(view, xy, labels, earlier)


def _mirrored(prompt: Prompt, width: int) -> Prompt:
    """What a prompt is on the mirror image of a picture of that width."""
    points = np.column_stack([width - prompt.points[:, 0], prompt.points[:, 1]])
    box = prompt.box
    if box is not None:
        box = (width - box[2], box[1], width - box[0], box[3])
    return Prompt(points, prompt.positive, box, prompt.logits)


def mirror_raster(raster: Float[np.ndarray, "*n h w"], width: int) -> Float[np.ndarray, "*n h w"]:
    """Mirrors what lies in the picture left to right.

    Where the picture ends within a cell, its mirrored cells lie half a cell off, and two are averaged.

    Args:
        raster: Cells of 4 pixels.
        width: Of the picture in pixels of the square; even.
    """
    count, rest = divmod(width, STRIDE)
    shifted = (raster[..., :-1] + raster[..., 1:]) / 2 if rest else raster
    mirrored = raster.copy()
    mirrored[..., :count] = shifted[..., :count][..., ::-1]
    return mirrored


def _extended(logits: Float[np.ndarray, "n h w"], content: Size) -> Float[np.ndarray, "n h w"]:
    """The logits with the last cells of the picture repeated once beyond it.

    The model was not told what to say there, and enlarging a mask would mix it into the picture's rim.
    """
    rows, columns = (max(1, length // STRIDE) for length in content)
    extended = logits.copy()
    extended[:, rows : rows + 1] = extended[:, rows - 1 : rows]
    extended[:, :, columns : columns + 1] = extended[:, :, columns - 1 : columns]
    return extended
