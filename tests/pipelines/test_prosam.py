"""The ProSAM pipeline with an encoder of random weights: the laws that hold whatever it predicts."""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import GREEN, RED, scene

from softmatch_jax import Box, InputError, Points
from softmatch_jax.models.prosam.distribution import sample
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.prosam.strategies import disagreement, merge_samples
from softmatch_jax.pipelines import FeatureCache, ProSAM, ProSamConfig

_MODELS = str(Path(__file__).parents[1] / "models" / "prosam")
if _MODELS not in sys.path:
    sys.path.append(_MODELS)
import small_encoder  # noqa: E402

SIZE = (60, 80)
KEY = jax.random.key(0)
SAMPLES = ProSamConfig(samples=3)


@pytest.fixture(scope="module")
def pictures():
    one, masks = scene(SIZE, [((25, 25), 14, RED), ((60, 35), 12, GREEN)], 1)
    two, _ = scene(SIZE, [((50, 30), 15, RED)], 5)
    return one, masks, two


@pytest.fixture(scope="module")
def pipeline():
    return ProSAM(small_encoder.small_predictor(2), SAMPLES, None, "prosam(drawn)")


@pytest.fixture(scope="module")
def reference(pipeline, pictures):
    return pipeline.reference(pictures[0], pictures[1][0], class_name="red")


@pytest.fixture(scope="module")
def target(pipeline, pictures):
    return pipeline.encode(pictures[2])


@pytest.fixture(scope="module")
def found(pipeline, target, reference):
    return pipeline.segment(target, reference, key=KEY)


def set_up(pipeline, **changes):
    return replace(pipeline, config=replace(pipeline.config, **changes))


def another(pipeline, **changes):
    """The same models with another encoder."""
    before = pipeline.predictor
    config = replace(before.config, **changes)
    return Predictor(before.features, before.sam, small_encoder.random_encoder(config))


def by_hand(pipeline, reference, target, strategy, key=KEY):
    """Logits of the merged mask and of the samples, from the parts of the pipeline."""
    predictor = pipeline.predictor
    scene = predictor.sam.of(target.embedding, SIZE)
    seen = predictor.see(PICTURE)
    predicted = predictor.prompts(reference.prompting, seen)
    own = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"red")), 0)
    drawn = jax.jit(sample, static_argnums=(1, 2))(predicted, predictor.distribution, 3, key=own)
    logits = predictor.decode(scene, jnp.concatenate([predicted.mean[None], drawn]))
    samples, deciding = logits[1:], logits[:1] if strategy == "mean" else logits[1:]
    return scene, merge_samples(deciding, strategy).logits, samples


PICTURE = scene(SIZE, [((50, 30), 15, RED)], 5)[0]


def test_the_result_is_whole(found, pictures):
    (only,) = found.classes
    assert found.image_size == only.mask.shape == found.labels.shape == SIZE
    assert 0.05 < only.mask.mean() < 0.95 and not only.absent and only.reason is None
    np.testing.assert_array_equal(found.labels, only.mask)
    np.testing.assert_array_equal(only.instance_labels > 0, only.mask)
    for values in (only.match_map, only.confidence, only.uncertainty):
        assert values.shape == SIZE and values.min() >= 0 and values.max() <= 1
    assert 0 < only.disagreement < 1 and only.uncertainty.max() > 0
    assert len(only.proposals) == len(only.kept) == 1
    assert {"encode", "match", "decode", "assemble"} <= found.timings.keys()


@pytest.mark.parametrize("strategy", ["mean", "mean_logits", "majority"])
def test_it_is_what_its_parts_say(pipeline, reference, target, strategy):
    scene, logits, samples = by_hand(pipeline, reference, target, strategy)
    (only,) = set_up(pipeline, strategy=strategy).segment(target, reference, key=KEY).classes
    raster = np.array(logits)
    inside = scene.raster.inside  # 12 of 16 rows: the picture is wide
    assert not inside[12:].any() and inside[:12].all()
    raster[12:] = raster[11]
    expected = scene.proposals(raster[None]).masks[0]
    differs = only.mask != expected  # pieces too small to count
    assert expected.any() and not only.mask[differs].any() and differs.mean() < 1e-3
    apart = disagreement(samples, jnp.asarray(inside))
    assert only.disagreement == pytest.approx(float(apart.value), abs=1e-6)
    assert only.uncertainty[:, :70].max() <= float(apart.map.max()) + 1e-6


def test_the_mean_prompt_needs_no_key_and_samples_do(pipeline, reference, target, found):
    again = pipeline.segment(target, reference, key=jax.random.key(1)).classes[0]
    np.testing.assert_array_equal(again.mask, found.classes[0].mask)
    assert again.disagreement != found.classes[0].disagreement
    same = pipeline.segment(target, reference, key=KEY).classes[0]
    assert same.disagreement == found.classes[0].disagreement
    sampled = set_up(pipeline, strategy="mean_logits")
    one, two = (sampled.segment(target, reference, key=jax.random.key(k)).classes[0] for k in (0, 1))
    assert (one.confidence != two.confidence).any()


def test_without_uncertainty_nothing_is_sampled(pipeline, reference, target, found):
    plain = set_up(pipeline, uncertainty=False)
    asked = []
    spied = replace(plain, predictor=_Spy(pipeline.predictor, asked))
    only = spied.segment(target, reference, key=KEY).classes[0]
    assert only.uncertainty is None and only.disagreement is None and asked == [1]
    np.testing.assert_array_equal(only.mask, found.classes[0].mask)


class _Spy:
    """Tells how many sets of prompts are decoded."""

    def __init__(self, predictor, asked):
        self._predictor, self._asked = predictor, asked

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def decode(self, scene, prompts, *, chunk):
        self._asked.append(len(prompts))
        return self._predictor.decode(scene, prompts, chunk=chunk)


def test_prompts_of_several_references_join(pipeline, pictures, reference, target):
    other = pipeline.reference(pictures[0], pictures[1][1], class_name="red")
    shapes = []

    class Shapes(_Spy):
        def decode(self, scene, prompts, *, chunk):
            shapes.append(prompts.shape)
            return self._predictor.decode(scene, prompts, chunk=chunk)

    both = replace(set_up(pipeline, uncertainty=False), predictor=Shapes(pipeline.predictor, []))
    one_way = both.segment(target, [reference, other], key=KEY).classes
    other_way = both.segment(target, [other, reference], key=KEY).classes
    prompts = pipeline.predictor.config.prompts
    assert shapes == [(1, 2 * prompts, pipeline.predictor.sam.dim)] * 2 and len(one_way) == 1
    # The decoder has no order among prompts, so that the order of references does not matter.
    np.testing.assert_allclose(one_way[0].confidence, other_way[0].confidence, atol=1e-3)
    np.testing.assert_array_equal(one_way[0].match_map, other_way[0].match_map)


def test_classes_compete_for_pixels(pipeline, pictures, reference, target, found):
    other = pipeline.reference(pictures[0], pictures[1][1], class_name="green")
    result = pipeline.segment(target, [other, reference], key=KEY)
    assert [entry.name for entry in result.classes] == ["green", "red"]
    assert not (result["green"].mask & result["red"].mask).any()
    np.testing.assert_array_equal(result.labels, result["green"].mask * 1 + result["red"].mask * 2)
    # What a class is sure of does not depend on those beside it.
    np.testing.assert_allclose(result["red"].confidence, found["red"].confidence, atol=1e-6)
    assert result["red"].disagreement == pytest.approx(found["red"].disagreement, abs=1e-6)


@pytest.mark.slow
def test_annotations_are_taken_as_they_are(pipeline, pictures):
    encoded = pipeline.encode(pictures[0])
    box = pipeline.reference(encoded, Box(10, 12, 40, 38))
    expected = np.zeros(SIZE, bool)
    expected[12:38, 10:40] = True
    np.testing.assert_array_equal(box.mask, expected)
    point = pipeline.reference(encoded, Points([(25, 25)], [True]))
    assert 4 <= point.mask.sum() <= 30 and point.mask[25, 25]
    assert 0 < point.prompting.mask.max() < 1  # a share of a cell
    grown = set_up(pipeline, complete=True).reference(encoded, Box(10, 12, 40, 38))
    assert grown.mask.any() and (grown.mask != box.mask).any()


def test_a_reference_promoted_from_a_result(pipeline, pictures, found, target):
    again = pipeline.reference(target, found.classes[0].mask, class_name="red")
    assert not pipeline.segment(pictures[0], again, key=KEY)["red"].match_map.max() > 1


def test_the_cache_answers_the_second_time(pipeline, reference, pictures, found):
    cache = FeatureCache()
    kept = replace(pipeline, cache=cache)
    kept.encode(pictures[2])
    misses = cache.stats.misses
    only = kept.segment(pictures[2], reference, key=KEY).classes[0]
    assert misses == cache.stats.misses == 2 and cache.stats.hits_memory == 2
    np.testing.assert_array_equal(only.mask, found.classes[0].mask)


def test_an_encoder_without_distribution(pipeline, reference, target):
    predictor = another(pipeline, variational=False)
    only = replace(pipeline, predictor=predictor).segment(target, reference, key=KEY).classes[0]
    assert only.uncertainty is None and only.disagreement is None
    with pytest.raises(InputError, match="'majority', but this encoder predicts prompts and no distribution"):
        replace(set_up(pipeline, strategy="majority"), predictor=predictor)


def test_what_is_found_in_nothing(pipeline, reference, target):
    none = set_up(pipeline, min_area=1.0).segment(target, reference, key=KEY)
    (only,) = none.classes
    assert only.absent and "smaller than min_area=1" in only.reason and none.absent
    assert not none.labels.any() and only.resemblance == only.score == 0


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"samples": 0}, r"prosam\.samples \(K\) is 0; expected at least 1"),
        ({"strategy": "median"}, r"prosam\.strategy is 'median'; expected 'mean'"),
        ({"min_area": 2.0}, r"prosam\.min_area is 2\.0"),
        ({"together": 0}, r"prosam\.together is 0"),
    ],
)
def test_settings_out_of_range(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        ProSamConfig(**changes)


def test_bad_input(pipeline, pictures, reference, target):
    empty = np.zeros(SIZE, bool)
    with pytest.raises(InputError, match="The reference mask is empty"):
        pipeline.reference(pictures[0], empty)
    with pytest.raises(InputError, match="class_name is empty"):
        pipeline.reference(pictures[0], pictures[1][0], class_name=" ")
    with pytest.raises(InputError, match="got no references"):
        pipeline.segment(target, [], key=KEY)
    with pytest.raises(InputError, match="key is 3; expected a random key"):
        pipeline.segment(target, reference, key=3)
    with pytest.raises(InputError, match="encoded by different models"):
        pipeline.segment(replace(target, models=("a", "b", "")), reference, key=KEY)


def test_an_annotation_that_no_cell_sees(pictures, pipeline):
    nearest = replace(pipeline, predictor=another(pipeline, to_grid="nearest"))
    with pytest.raises(InputError, match="No cell of the features sees the annotation"):
        nearest.reference(pictures[0], Points([(26, 26)], [True]))


@pytest.mark.slow
def test_weights_that_belong_to_other_models(tmp_path):
    from softmatch_jax.models.prosam.weights import read_encoder, save_encoder

    path = small_encoder.write_encoder(tmp_path / "w.safetensors")
    stored = read_encoder(path)

    def again(**said):
        own = {"features", "sam", "size", "level"} & stored.metadata.keys()
        metadata = {name: stored.metadata[name] for name in own} | said
        save_encoder(
            path,
            stored.arrays,
            config=stored.config,
            distribution=stored.distribution,
            metadata={name: text for name, text in metadata.items() if text is not None},
        )
        return path

    with pytest.raises(InputError, match=r"trained with tiny-sam-features.*size=64.*and this is .*size=128"):
        ProSAM.embedded(again(size=128))
    with pytest.raises(InputError, match=r"trained with sam\(x\), which is not the small SAM.*foundation"):
        ProSAM.embedded(again(sam="sam(x)"))
    with pytest.raises(InputError, match="says level 'coarse'; expected embedding or fine"):
        ProSAM.embedded(again(level="coarse"))
    with pytest.raises(InputError, match="says size 'big'"):
        ProSAM.embedded(again(size="big"))
    with pytest.raises(InputError, match=r"does not name its backbone.*--prosam-backbone"):
        ProSAM.foundation(again())
    with pytest.raises(InputError, match=r"The backbone is 'mobilenet=x'; expected KIND=NAME"):
        ProSAM.foundation(again(), "mobilenet=x")
