from __future__ import annotations

import gc
import json
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models.clip import Clip, ClipConfig
from softmatch_jax.models.protocols import PatchFeatures

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PATCH, TRAINED, DIM, LONGEST = 8, 32, 24, 40
CONFIG = ClipConfig(size=TRAINED, device="cpu", batch_size=3)
PLAIN = replace(CONFIG, templates=("{}",))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_tokenizer(folder):
    """CLIP's tokenizer for small letters: bytes, bytes that end a word, and a few pairs."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,{}'-"]
    merges = [("t", "h"), ("th", "e</w>"), ("a", "n"), ("r", "e"), ("re", "d</w>")]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    vocabulary = [*words, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n")
    return len(vocabulary)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small wait for their threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("clip")
    words = write_tokenizer(found)
    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": words, "max_position_embeddings": LONGEST, "eos_token_id": words - 1}
    text |= {"bos_token_id": words - 2, "pad_token_id": words - 1}
    config = transformers.CLIPConfig(
        text_config=width | text,
        vision_config=width | {"image_size": TRAINED, "patch_size": PATCH},
        projection_dim=DIM,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    for name, parameter in model.named_parameters():
        if name != "logit_scale":
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def original(folder):
    """The model as transformers loads it."""
    return transformers.CLIPModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def clip(folder):
    return Clip.load(folder, config=CONFIG)


def pixels(images, side):
    """What the image processor published with the models makes of pictures."""
    processor = transformers.CLIPImageProcessorPil(
        do_center_crop=False,
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
        resample=3,
        size={"height": side, "width": side},
    )
    made = [
        processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]
        for image in images
    ]
    return torch.from_numpy(np.concatenate(made))


def unit(vectors):
    vectors = np.asarray(vectors)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_pictures_are_where_transformers_puts_them(clip, original):
    images = np.stack([picture(50, 83, seed) for seed in range(3)])
    found = clip.image_embeddings(images)
    with torch.inference_mode():
        wanted = original.get_image_features(pixel_values=pixels(images, TRAINED)).pooler_output
        np.testing.assert_array_equal(found, torch.nn.functional.normalize(wanted, dim=-1))
    assert found.shape == (3, clip.dim) == (3, DIM) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-6)


def test_pictures_are_seen_whole_at_the_trained_size(folder, clip):
    """Whatever the size for patches; and what lies at the rim counts."""
    image = np.zeros((1, 20, 60, 3), np.uint8)
    changed = image.copy()
    changed[0, :, :6] = 255
    larger = Clip.load(folder, config=replace(CONFIG, size=64))
    np.testing.assert_array_equal(clip.image_embeddings(image), larger.image_embeddings(image))
    assert np.abs(np.asarray(clip.image_embeddings(image)) - clip.image_embeddings(changed)).max() > 1e-2


def test_phrases_are_where_transformers_puts_them(folder, original):
    clip = Clip.load(folder, config=PLAIN)
    texts = ["red apple", "the leaf", "a"]
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    assert len(set(tokens["attention_mask"].sum(1).tolist())) == 3  # padding has a part in this
    found = clip.text_embeddings(texts)
    with torch.inference_mode():
        wanted = torch.nn.functional.normalize(original.get_text_features(**tokens).pooler_output, dim=-1)
        np.testing.assert_array_equal(found, torch.nn.functional.normalize(wanted, dim=-1))
    assert found.shape == (3, DIM) and found.dtype == np.float32


def test_cosines_are_the_logits_of_transformers(folder, original):
    clip = Clip.load(folder, config=PLAIN)
    texts, images = ["red apple", "leaf"], np.stack([picture(30, 30, seed) for seed in range(2)])
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        wanted = original(**tokens, pixel_values=pixels(images, TRAINED)).logits_per_image
    cosines = np.asarray(clip.image_embeddings(images)) @ np.asarray(clip.text_embeddings(texts)).T
    assert clip.logit_scale == pytest.approx(np.exp(2.6592), rel=1e-6)
    np.testing.assert_allclose(clip.logit_scale * cosines, wanted, atol=1e-4)


def test_templates_are_averaged(folder):
    templates = ("a {}.", "the {}, {red}", "{}")
    plain, averaged = (
        Clip.load(folder, config=PLAIN),
        Clip.load(folder, config=replace(PLAIN, templates=templates)),
    )
    phrases = ["apple", "oak leaf", "{}", "{0} {a}"]  # braces in a phrase are letters like others
    wanted = [
        np.mean([unit(plain.text_embeddings([t.replace("{}", p)]))[0] for t in templates], axis=0)
        for p in phrases
    ]
    np.testing.assert_allclose(averaged.text_embeddings(phrases), unit(np.stack(wanted)), atol=1e-5)


def test_phrases_do_not_depend_on_their_company(folder):
    clip = Clip.load(folder, config=replace(PLAIN, batch_size=2))
    phrases = ["a", "red apple", "oak leaf", "the wheel", "the"]
    alone = np.concatenate([clip.text_embeddings([phrase]) for phrase in phrases])
    np.testing.assert_allclose(clip.text_embeddings(phrases), alone, atol=1e-5)
    np.testing.assert_array_equal(clip.text_embeddings(("Red   Apple",)), clip.text_embeddings(["red apple"]))


def by_hand(original, images, size, *, residual):
    """Patches in the joint space in float64, from what hooks see in an ordinary pass."""
    last, seen = original.vision_model.encoder.layers[-1], {}
    hooks = [
        last.self_attn.v_proj.register_forward_hook(lambda _, __, out: seen.update(value=out)),
        last.layer_norm1.register_forward_hook(lambda _, given, __: seen.update(input=given[0])),
    ]
    with torch.inference_mode():
        original.get_image_features(pixel_values=pixels(images, size), interpolate_pos_encoding=True)
    for hook in hooks:
        hook.remove()
    weights = {name: value.double().numpy() for name, value in original.state_dict().items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    def layer_norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    block = "vision_model.encoder.layers.1"
    x = linear(seen["value"].double().numpy(), f"{block}.self_attn.out_proj")
    if residual:
        x = x + seen["input"].double().numpy()
        hidden = linear(layer_norm(x, f"{block}.layer_norm2"), f"{block}.mlp.fc1")
        hidden = hidden / (1 + np.exp(-1.702 * hidden))  # QuickGELU
        x = x + linear(hidden, f"{block}.mlp.fc2")
    x = linear(layer_norm(x, "vision_model.post_layernorm"), "visual_projection")
    return x[:, 1:].reshape(len(images), size // PATCH, size // PATCH, -1)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [TRAINED, 48, 16])
def test_patches_are_the_values_of_the_last_attention(size, residual, folder, original):
    clip = Clip.load(folder, config=replace(CONFIG, size=size, residual=residual))
    images = np.stack([picture(50, 83, seed) for seed in range(4)])
    found = clip(images)
    assert isinstance(found, PatchFeatures)
    assert found.values.shape == (4, size // PATCH, size // PATCH, DIM) and found.values.dtype == np.float32
    assert found.valid.all() and found.grid == clip.grid((50, 83)) and found.grid.input_size == (size, size)
    wanted = by_hand(original, images, size, residual=residual)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-4, atol=2e-5)
    other = by_hand(original, images, size, residual=not residual)
    assert np.abs(found.values - other).max() > 0.1


@pytest.mark.parametrize("size", [(120, 200), (200, 120), (40, 400)])
def test_the_grid_points_at_what_was_seen(size, folder):
    """The feature that a spot changes most is the one whose patch holds it."""
    clip = Clip.load(folder, config=replace(CONFIG, size=8 * PATCH))
    dark = np.zeros((*size, 3), np.uint8)
    before = np.asarray(clip(dark[None]).values)[0]
    high, wide = (length // 8 // 4 for length in size)
    for row, column in ((0, 0), (7, 7), (4, 2)):
        x, y = clip.grid(size).patch_centres()[row, column].astype(int)
        spotted = dark.copy()
        spotted[y - high : y + high + 1, x - wide : x + wide + 1] = 255
        change = np.linalg.norm(np.asarray(clip(spotted[None]).values)[0] - before, axis=-1)
        assert np.unravel_index(change.argmax(), change.shape) == (row, column)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1), (10, 700)])
def test_slivers(size, clip):
    image = picture(*size)[None]
    assert np.isfinite(clip(image).values).all() and clip(image).valid.all()
    assert np.isfinite(clip.image_embeddings(image)).all()


def test_a_batch_is_a_loop(clip):
    images = np.stack([picture(40, 70, seed) for seed in range(5)])
    for embed in (lambda i: np.asarray(clip(i).values), lambda i: np.asarray(clip.image_embeddings(i))):
        alone = np.concatenate([embed(image[None]) for image in images])
        np.testing.assert_allclose(embed(images), alone, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_half_precision(dtype, tolerance, folder):
    exact = Clip.load(folder, config=replace(CONFIG, size=48))
    half = Clip.load(folder, config=replace(CONFIG, size=48, dtype=dtype))
    assert half.model.dtype == getattr(torch, dtype)
    image = picture(40, 40)[None]
    for embed in (
        lambda clip: clip(image).values,
        lambda clip: clip.image_embeddings(image),
        lambda clip: clip.text_embeddings(["red apple"]),
    ):
        found, wanted = np.asarray(embed(half)), np.asarray(embed(exact))
        assert found.dtype == np.float32
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert 0 < error < tolerance  # a few roundings of 2^-11 or 2^-8 in sequence


def test_threads_may_share_one(clip):
    images = [picture(30, 40, seed)[None] for seed in range(12)]
    phrases = [["red apple"], ["leaf", "a"], ["the wheel of a car"]] * 4

    def both(image, texts):
        return np.asarray(clip(image).values), np.asarray(clip.text_embeddings(texts))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(both, images, phrases))
    for image, texts, found in zip(images, phrases, together, strict=True):
        for a, b in zip(found, both(image, texts), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_network_is_frozen_and_nothing_else_is_touched(clip):
    assert not clip.model.training
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_name_tells_results_apart(folder):
    def name(**changes):
        return Clip.load(folder, config=replace(CONFIG, **changes)).name

    plain = name()
    assert plain == name() and plain.isprintable()
    assert str(folder) in plain and "@" in plain and "preprocessing=1" in plain
    changes = [{"size": 48}, {"residual": True}, {"dtype": "bfloat16"}]
    assert len({plain, *(name(**change) for change in changes)}) == 1 + len(changes)
    # Phrases and the sentences they are put into have no part in what a picture's patches are.
    for same in ({"batch_size": 1}, {"device": "auto", "dtype": "float32"}, {"templates": ("{}",)}):
        assert name(**same) == plain


def test_phrases_that_are_none(clip):
    for wrong in ([], "leaf"):
        with pytest.raises(InputError, match=r"texts is .*; expected a list of at least one phrase"):
            clip.text_embeddings(wrong)
    for wrong in ("", "  \n", None, 3):
        with pytest.raises(InputError, match=r"texts\[1\] is .*; expected a phrase such as"):
            clip.text_embeddings(["leaf", wrong])


def test_phrases_that_are_too_long(folder, original):
    clip = Clip.load(folder, config=PLAIN)
    assert np.isfinite(clip.text_embeddings(["j" * (LONGEST - 2)])).all()  # and the two ends
    with pytest.raises(InputError, match=f"makes {LONGEST + 1} tokens"):
        clip.text_embeddings(["j" * (LONGEST - 1)])
    with pytest.raises(
        InputError,
        match=rf"The phrase in 'j+ \.\.\. j+' makes 82 tokens; expected at most {LONGEST} with its template",
    ):
        clip.text_embeddings(["leaf", "a", "leaf", "the", "j" * 80])


def test_no_batch_of_pictures(clip):
    for embed in (clip, clip.image_embeddings):
        with pytest.raises(InputError, match=r"images is uint8 \[4, 4, 3\]; expected a non-empty uint8"):
            embed(picture(4, 4))


def test_full_memory_names_the_knobs(folder, monkeypatch):
    clip = Clip.load(folder, config=CONFIG)

    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    for projection in (clip.model.visual_projection, clip.model.text_projection):
        monkeypatch.setattr(projection, "forward", full)
    calls = (lambda: clip.text_embeddings(["leaf"]), lambda: clip(picture(9, 9)[None]))
    for call in (*calls, lambda: clip.image_embeddings(picture(9, 9)[None])):
        with pytest.raises(
            InputError, match=r"does not fit into the GPU's memory; lower ClipConfig.batch_size"
        ):
            call()


def test_convolutions_are_exact_in_float32(folder, monkeypatch):
    """cuDNN is told while the network runs, and only where float32 was asked for."""
    seen = []
    for dtype in ("float32", "bfloat16"):
        clip = Clip.load(folder, config=replace(CONFIG, dtype=dtype))
        forward = clip.model.vision_model.embeddings.patch_embedding.forward
        monkeypatch.setattr(
            clip.model.vision_model.embeddings.patch_embedding,
            "forward",
            lambda *a, f=forward: (seen.append(torch.backends.cudnn.conv.fp32_precision), f(*a))[1],
        )
        clip(picture(20, 20)[None])
        clip.image_embeddings(picture(20, 20)[None])
    assert seen == ["ieee", "ieee", "tf32", "tf32"]
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"


def test_phrases_are_embedded_once(folder, monkeypatch):
    clip = Clip.load(folder, config=CONFIG)
    forward, calls = clip.model.text_projection.forward, []
    monkeypatch.setattr(
        clip.model.text_projection, "forward", lambda x: (calls.append(len(x)), forward(x))[1]
    )
    first = clip.text_embeddings(["leaf", "red apple"])
    count = len(calls)
    assert clip.text_embeddings(("leaf", "red apple")) is first and len(calls) == count
    assert clip.text_embeddings(["red apple", "leaf"]) is not first and len(calls) > count


def test_nothing_holds_a_network_that_is_not_used_any_more(folder):
    """Without waiting for the garbage collector, since a GPU's memory is scarce."""
    clip = Clip.load(folder, config=CONFIG)
    clip.text_embeddings(["leaf"])
    gone = weakref.ref(clip.tokenizer)
    gc.disable()
    try:
        del clip
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "expected at least 1"),
        ({"batch_size": 0}, "expected at least 1"),
        ({"templates": ()}, "expected a tuple of at least one sentence"),
        ({"templates": "a {}"}, "expected a tuple of at least one sentence"),
        ({"templates": ("a photo",)}, r"ClipConfig.templates has 'a photo'; expected one \{\}"),
        ({"templates": ("{} {}",)}, r"expected one \{\}"),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(InputError, match=message):
        ClipConfig(**wrong)


def test_settings_that_do_not_suit_the_model(folder):
    with pytest.raises(InputError, match=r"ClipConfig.size is 30; .* 8 pixels \(the nearest: 24 or 32\)"):
        Clip.load(folder, config=replace(CONFIG, size=30))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: [(f / name).unlink() for name in ("vocab.json", "merges.txt")],
            "The tokenizer of .* knows 2 tokens and the network 91",
        ),
        (lambda f: (f / "vocab.json").unlink(), "expected tokenizer.json, or vocab.json and merges.txt"),
        (lambda f: (f / "merges.txt").unlink(), "expected tokenizer.json, or vocab.json and merges.txt"),
        (lambda f: (f / "vocab.json").write_text("{"), "The tokenizer of .* cannot be read"),
        (lambda f: (f / "vocab.json").write_text('{"a": 0}'), "The tokenizer of .* cannot be read"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "siglip"}'),
            "is a model of type 'siglip'; expected clip",
        ),
    ],
)
def test_checkpoints_of_something_else(spoil, message, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(InputError, match=message):
        Clip.load(copy, config=CONFIG)
