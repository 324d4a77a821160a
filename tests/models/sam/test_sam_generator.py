"""SAM as a mask generator, against transformers on the same weights, from the picture to the masks."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import sam_checkpoints

from softmatch_jax import InputError
from softmatch_jax.imaging import fit_longest
from softmatch_jax.models import MaskGenerator, Storable
from softmatch_jax.models.sam import generator as module
from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator
from softmatch_jax.prompting import Prompt

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDE, RASTER = 128, 32
CPU = SamGeneratorConfig(device="cpu", dtype="float32")
TOLERANCE = {"rtol": 0, "atol": 2e-3}
"""Logits reach 20 and beyond; single precision on both sides."""


class Original:
    """transformers' model and processor on one picture."""

    def __init__(self, model, image):
        self.model, self.image = model, image
        self.processor = transformers.SamImageProcessorPil(
            size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
        )

    @cached_property
    def embedding(self):
        pixels = self.processor(self.image, return_tensors="np", input_data_format="channels_last")[
            "pixel_values"
        ]
        with torch.inference_mode():
            return self.model.get_image_embeddings(torch.tensor(np.asarray(pixels)))[0].numpy()

    def decode(self, prompt, *, multimask, mask=None):
        """The answer to a prompt of ours; the model takes pixel indices, of which 0 is our 0.5."""
        ratio = np.divide(fit_longest(self.image.shape[:2], SIDE), self.image.shape[:2])[::-1]
        box = None if prompt.box is None else (np.reshape(prompt.box, (2, 2)) * ratio - 0.5).ravel()
        return sam_checkpoints.transformers_decode(
            self.model,
            self.embedding,
            points=prompt.points * ratio - 0.5,
            positive=prompt.positive,
            box=box,
            mask=mask,
            multimask=multimask,
        )


def picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.array(transformers.image_utils.PIL.Image.fromarray(small).resize((width, height)))


def points(*xy, box=None, logits=None, negative=()):
    everything = np.reshape(np.array([*xy, *negative], np.float32), (-1, 2))
    return Prompt(everything, np.arange(len(everything)) < len(xy), box, logits)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return sam_checkpoints.save_transformers(tiny, tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def generator(folder):
    return SamMaskGenerator.load(folder, config=CPU)


@pytest.fixture(scope="module")
def image():
    return picture(90, 128)


@pytest.fixture(scope="module")
def embedding(generator, image):
    return generator.encode(image)


@pytest.fixture(scope="module")
def original(tiny, image):
    return Original(tiny, image)


ONE, TWO = points((40, 30)), points((40, 30), (80, 60), negative=[(10, 80)])
BOXED, BOX = points((60, 40), box=(20, 10, 100, 70)), points(box=(30.5, 20.25, 90, 80))


def check(made, place, wanted):
    """Proposal ``place`` is what transformers made."""
    logits, score = wanted
    np.testing.assert_allclose(made.logits[place], logits, **TOLERANCE)
    np.testing.assert_allclose(made.scores[place], score, atol=1e-4)


def test_every_prompt_is_answered_as_transformers_does(generator, embedding, original):
    """Prompts of different lengths in one call; three masks for a single point, one for the others."""
    made = generator.decode(embedding, [TWO, ONE, BOXED, BOX])
    assert made.prompts.tolist() == [0, 1, 1, 1, 2, 3]
    for place, prompt in ((0, TWO), (4, BOXED), (5, BOX)):
        logits, scores = original.decode(prompt, multimask=False)
        check(made, place, (logits[0], scores[0]))
    logits, scores = original.decode(ONE, multimask=True)
    for number in range(3):
        check(made, 1 + number, (logits[number], scores[number]))
    assert (made.image_size, made.content, made.scale, made.threshold) == ((90, 128), (90, 128), 4, 0)
    assert made.logits.dtype == made.scores.dtype == made.stability.dtype == np.float32


@pytest.mark.parametrize("size", [(60, 40), (33, 131), (300, 400), (3, 400), (400, 2)])
def test_pictures_of_any_shape_are_answered_as_transformers_does(generator, tiny, size):
    image = picture(*size, seed=3)
    prompt = points((size[1] * 0.4, size[0] * 0.6), (size[1] * 0.7, size[0] * 0.3))
    made = generator.decode(generator.encode(image), [prompt])
    logits, scores = Original(tiny, image).decode(prompt, multimask=False)
    check(made, 0, (logits[0], scores[0]))
    assert made.masks.shape == (1, *size) and made.inside.any()


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (1, 1)])
def test_slivers_of_which_less_than_a_pixel_is_left(generator, size):
    """Transformers refuses these; a line of pixels is a picture all the same."""
    made = generator.decode(
        generator.encode(picture(*size)), [points((0.5, 0.5), (size[1] / 2, size[0] / 2))]
    )
    assert made.masks.shape == (1, *size) and made.inside.any() and np.isfinite(made.logits).all()
    assert 0 <= made.stability[0] <= 1


def test_both_runtimes_give_the_same(folder, generator, image, embedding):
    other = SamMaskGenerator.load(folder, config=replace(CPU, runtime="torch"))
    assert CPU.runtime == "jax" and generator.name == other.name
    theirs = other.encode(image)
    assert np.abs(embedding.rows - theirs.rows).max() <= 1e-5 * np.ptp(theirs.rows)
    made, wanted = generator.decode(embedding, [TWO, ONE]), other.decode(theirs, [TWO, ONE])
    np.testing.assert_allclose(made.logits, wanted.logits, **TOLERANCE)


def test_half_precision_is_named_with_its_runtime(folder):
    """Other values are cached under other names."""
    names = [
        SamMaskGenerator.load(folder, config=SamGeneratorConfig(device="cpu", dtype=dtype, runtime=runtime))
        .embedding_name.partition("dtype=")[2]
        .partition(", preprocessing")[0]
        for runtime in ("jax", "torch")
        for dtype in ("auto", "bfloat16")
    ]
    assert names == ["float32", "bfloat16, runtime=jax", "float32", "bfloat16, runtime=torch"]


def test_both_formats_give_the_same(tiny, embedding, generator, image, tmp_path):
    path = sam_checkpoints.save_authors(tiny, tmp_path / "sam.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "config_of", lambda checkpoint: generator._sizes)
        other = SamMaskGenerator.load(path, config=CPU)
    made = other.decode(other.encode(image), [TWO, ONE])
    wanted = generator.decode(embedding, [TWO, ONE])
    np.testing.assert_allclose(made.logits, wanted.logits, **TOLERANCE)
    np.testing.assert_allclose(made.scores, wanted.scores, atol=1e-4)
    assert "sha256:" in other.name and other.name != generator.name


def test_sams_own_scaling_of_pixel_indices_is_half_a_pixel_off(generator, tiny):
    """SAM scales the index of a pixel and adds half a pixel of the square; we scale its centre.

    Half a pixel of the picture is ``ratio / 2`` of the square's, not ``1 / 2``: between the two lie
    ``(ratio - 1) / 2`` pixels of the square, nothing when nothing is scaled.
    """
    size, xy = (45, 64), np.array([[20, 15]])
    image = picture(*size, seed=1)
    ratio = SIDE / max(size)
    theirs = Original(tiny, image)
    wanted, _ = sam_checkpoints.transformers_decode(
        tiny, theirs.embedding, points=xy * ratio, positive=[True], multimask=True
    )
    shifted = (xy * ratio + 0.5) / ratio
    made = generator.decode(generator.encode(image), [points(*shifted)])
    np.testing.assert_allclose(made.logits, wanted, **TOLERANCE)
    assert np.abs(shifted - (xy + 0.5)).max() == pytest.approx((ratio - 1) / 2 / ratio)


def test_prompts_do_not_know_of_each_other(generator, embedding):
    prompts = [ONE, TWO, BOX, BOXED]
    together = generator.decode(embedding, prompts)
    for index, prompt in enumerate(prompts):
        alone = generator.decode(embedding, [prompt])
        np.testing.assert_allclose(together.logits[together.prompts == index], alone.logits, **TOLERANCE)


@pytest.mark.parametrize(
    ("masks", "count", "multimask"), [("single", 1, False), ("multiple", 3, True), ("auto", 3, True)]
)
def test_settings_say_how_many_masks_a_point_gets(generator, embedding, original, masks, count, multimask):
    other = _with(generator, masks)
    made = other.decode(embedding, [ONE, TWO])
    first, second = (made[made.prompts == index] for index in (0, 1))
    assert len(first) == count and len(second) == {"single": 1, "multiple": 3, "auto": 1}[masks]
    logits, _ = original.decode(ONE, multimask=multimask)
    np.testing.assert_allclose(first.logits, logits, **TOLERANCE)


def _with(generator, masks):
    other = object.__new__(SamMaskGenerator)
    vars(other).update(vars(generator), config=replace(generator.config, masks=masks))
    return other


def test_any_number_of_prompts(generator, embedding, monkeypatch):
    """In blocks; the answers keep the order of the prompts."""
    prompts = [points((5 * i % 120 + 1, 7 * i % 80 + 1), (60, 40)) for i in range(11)]
    wanted = generator.decode(embedding, prompts)
    monkeypatch.setattr(module, "BLOCK", 4)
    made = generator.decode(embedding, prompts)
    assert made.prompts.tolist() == list(range(11))
    np.testing.assert_allclose(made.logits, wanted.logits, **TOLERANCE)
    assert len({one.tobytes() for one in made.logits}) == 11


def test_more_prompts_than_a_block(generator, embedding):
    xy = np.random.default_rng(0).uniform(1, 80, (module.BLOCK + 3, 2))
    made = _with(generator, "single").decode(embedding, [points(one) for one in xy])
    assert made.prompts.tolist() == list(range(len(xy)))
    last = _with(generator, "single").decode(embedding, [points(xy[-1])])
    np.testing.assert_allclose(made.logits[-1:], last.logits, **TOLERANCE)


def test_corrections_take_the_earlier_answer_along(generator, embedding, original):
    earlier = generator.decode(embedding, [ONE])
    prompts = [ONE, points((40, 30), (70, 20), logits=earlier.logits[1]), TWO]
    made = generator.decode(embedding, prompts)
    assert made.prompts.tolist() == [0, 0, 0, 1, 2]
    logits, scores = original.decode(prompts[1], multimask=False, mask=earlier.logits[1])
    check(made, 3, (logits[0], scores[0]))
    alone = generator.decode(embedding, [points((40, 30), logits=earlier.logits[1])])
    assert len(alone) == 1  # a point is ambiguous, but no longer with an answer beside it
    plain = generator.decode(embedding, [points((40, 30), (70, 20))])
    assert np.abs(plain.logits - made.logits[3]).max() > 0.1
    # What has no earlier answer is not touched by what has.
    np.testing.assert_allclose(made.logits[:3], earlier.logits, **TOLERANCE)


def test_the_prior_is_passed_over(generator, embedding):
    prior = np.random.default_rng(0).random((90, 128)).astype(np.float32)
    made, wanted = (generator.decode(embedding, [TWO], prior=given) for given in (prior, None))
    np.testing.assert_array_equal(made.logits, wanted.logits)


def test_stability_is_the_iou_of_two_thresholds(generator, tiny):
    image = picture(70, 128, seed=5)
    made = generator.decode(generator.encode(image), [ONE, TWO])
    for logits, stability in zip(made.logits, made.stability, strict=True):
        strict, loose = ((logits[:17] > offset) for offset in (1, -1))
        strict, loose = (part & made.inside[:17] for part in (strict, loose))
        assert stability == pytest.approx((strict & loose).sum() / max((strict | loose).sum(), 1), rel=1e-6)
    assert (
        made.inside.sum(axis=0).tolist() == [17] * RASTER
    )  # 70 pixels: the next cell has its centre on their edge


def test_what_was_packed_decodes_as_before(generator, embedding):
    arrays = generator.pack(embedding)
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    again = generator.unpack(arrays, embedding.image_size)
    assert (again.image_size, again.input_size) == (embedding.image_size, embedding.input_size)
    one, other = (generator.decode(given, [ONE, TWO]) for given in (embedding, again))
    np.testing.assert_array_equal(one.logits, other.logits)
    assert one.content == other.content


def test_it_is_a_generator_that_takes_points_and_whose_embeddings_can_be_kept(generator):
    checked: MaskGenerator = generator
    assert checked.promptable and isinstance(generator, Storable)


def test_names_say_what_was_loaded_and_how(generator, folder):
    for part in (str(folder), "sha256:", "dtype=float32", "masks=auto"):
        assert part in generator.name
    assert generator.name.isprintable()
    other = _with(generator, "single")
    assert other.name != generator.name and other.embedding_name == generator.embedding_name
    half = SamMaskGenerator.load(folder, config=replace(CPU, dtype="bfloat16"))
    assert half.embedding_name != generator.embedding_name


def test_half_precision_is_close(generator, folder, embedding, image):
    half = SamMaskGenerator.load(folder, config=replace(CPU, dtype="bfloat16"))
    made = half.decode(half.encode(image), [TWO])
    wanted = generator.decode(embedding, [TWO])
    assert (made.masks == wanted.masks).mean() > 0.9


def test_the_next_picture_compiles_nothing(generator, embedding, count_compiles):
    generator.decode(embedding, [ONE, TWO])
    with count_compiles() as compiled:
        other = generator.encode(picture(64, 50))
        generator.decode(other, [points((3, 3)), points((8, 9), (20, 30), (30, 20))])
    assert compiled == []


def test_an_embedding_that_is_not_finite_is_refused(generator, image, monkeypatch):
    import jax.numpy as jnp

    monkeypatch.setattr(generator, "_encoder", lambda pixels: jnp.full((1, 64, 64), jnp.nan))
    with pytest.raises(InputError, match=r"the embedding from sam\(.* holds 4096 values .*choose dtype"):
        generator.encode(image)


def test_bad_input_is_one_sentence(generator, embedding, image):
    with pytest.raises(InputError, match="decode got no prompts"):
        generator.decode(embedding, [])
    wrong = points((3, 4), logits=np.zeros((16, 16), np.float32))
    with pytest.raises(InputError, match=r"Prompt\.logits has shape \[16, 16\].*32"):
        generator.decode(embedding, [wrong])
    with pytest.raises(InputError, match="uint8"):
        generator.encode(image.astype(float))
    with pytest.raises(InputError, match=r"SamGeneratorConfig\.masks is 'some'; expected auto"):
        SamGeneratorConfig(masks="some")
    with pytest.raises(InputError, match=r"SamGeneratorConfig\.runtime is 'onnx'; expected jax, torch"):
        SamGeneratorConfig(runtime="onnx")
