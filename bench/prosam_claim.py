"""Does a distribution of prompts help? VRP-SAM, VRP-SAM with two linear layers, ProSAM with t and Gaussian.

All are trained on the same pairs with the same frozen small SAM: views of one picture (BSDS500), and base
classes of CamVid and of magnetic tile defects. They are asked for regions of other pictures and for the novel
classes. Each seed has its own fold, so that over three seeds each class is novel once. Training-free matching
is asked the same with the same small SAM, on its features and on the descriptor's.

    python bench/prosam_claim.py --data ../shared/data --runs runs --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from real_folders import CAMVID_NAMES, NO_BAR
from scipy import stats

from softmatch_jax import Softmatcher, SoftmatcherConfig
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.data.training_sets import TrainingData, TrainingSource, open_training
from softmatch_jax.imaging import atomic_write_text
from softmatch_jax.models import DenseDescriptor, DescriptorConfig
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, FrozenSam
from softmatch_jax.models.prosam.predictor import Predictor, PromptReference, deepen, mask_to_grid
from softmatch_jax.models.prosam.weights import encoder_of, read_encoder, save_encoder
from softmatch_jax.models.sam.tiny_features import TinyFeaturesExtractor
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.pipelines.one_class import SoftmatcherOneClass
from softmatch_jax.prompting import MaskAnnotation
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.loop import train
from softmatch_jax.training.prompt_batches import PromptBatches
from softmatch_jax.training.prompt_config import PromptTrainConfig
from softmatch_jax.training.prompt_pairs import EpisodePairs, Pair, Shown, ViewPairs
from softmatch_jax.training.prompt_store import Frozen, FrozenStore
from softmatch_jax.training.prompt_task import PromptTask

FOLDS = 3
SETS = ("bsds500", "camvid", "mt_defects")
SIZE = 128
QUESTIONS = 200
"""Of each set; the same for all contenders."""

ENCODER = PromptEncoderConfig(
    channels=192, dim=128, prompts=16, dropout=0.0, feature_gain=10.0, likeness="minmax", to_grid="area"
)
METHODS: dict[str, tuple[PromptEncoderConfig, DistributionConfig]] = {
    "vrp": (replace(ENCODER, variational=False), DistributionConfig(family="none")),
    "vrp+2": (replace(ENCODER, variational=False, extra_linear=2), DistributionConfig(family="none")),
    "prosam-t": (ENCODER, DistributionConfig()),
    "prosam-gaussian": (ENCODER, DistributionConfig(family="gaussian")),
}

MATCHED = ("tiny", "descriptor")


def main() -> None:
    """Trains what is not trained yet, asks everybody, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of bsds500, camvid and mt_defects")
    parser.add_argument("--runs", type=Path, required=True, help="where trainings and answers are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--matchers", nargs="*", default=list(MATCHED), choices=MATCHED, help="features that are matched"
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--size", type=int, default=SIZE, help="side that the small SAM sees")
    args = parser.parse_args()
    generator = TinySam.load(config=TinySamConfig(size=args.size))
    store = FrozenStore(TinyFeaturesExtractor(generator.network), FrozenSam(generator))
    for seed in args.seeds:
        sources, questions = open_data(args.data, seed % FOLDS)
        for method in args.methods:
            path = args.runs / f"{method}_{seed}.safetensors"
            if path.exists():
                check_same(path, args, store.sam.name)
            else:
                train_one(method, seed, sources, store, args, path)
            answers = path.with_suffix(".json")
            if not answers.exists():
                atomic_write_text(answers, json.dumps(ask(path, store, questions)))
                print(method, seed, summary(json.loads(answers.read_text())), flush=True)
        for features in args.matchers:
            answers = args.runs / f"match-{features}_{seed}.json"
            if not answers.exists():
                atomic_write_text(answers, json.dumps(match(features, generator, questions)))
                print(features, seed, summary(json.loads(answers.read_text())), flush=True)
    print_table(args.runs, args.seeds, [*args.methods, *(f"match-{features}" for features in args.matchers)])


def check_same(path: Path, args: argparse.Namespace, sam: str) -> None:
    """Stops where an encoder of an earlier call was trained otherwise."""
    said = read_encoder(path).metadata
    if (said["steps"], said["sam"]) != (str(args.steps), sam):
        raise SystemExit(
            f"{path} has {said['steps']} steps on {said['sam']}; take another folder for --runs."
        )


def open_data(root: Path, fold: int) -> tuple[list[tuple[Any, float]], dict[str, list[tuple[str, Pair]]]]:
    """Sources of pairs to train on, and the questions of each set: class or picture, and pair."""
    camvid, tiles = (open_training(source) for source in data_sources(root, fold))
    views = {
        part: ViewPairs(f"bsds500 {part}", open_region_pictures("bsds500", root / "bsds500", part))
        for part in ("train", "val")
    }
    sources = [
        (views["train"], 0.6),
        (EpisodePairs(camvid.episodes), 0.25),
        (EpisodePairs(tiles.episodes), 0.15),
    ]
    held = [("bsds500 regions", views["val"].pair(0, index)) for index in range(QUESTIONS)]
    questions = {
        "bsds500": [(pair.target.key.partition("#")[0], pair) for _, pair in held],
        "camvid": novel_questions(camvid),
        "mt_defects": novel_questions(tiles),
    }
    return sources, questions


def data_sources(root: Path, fold: int) -> tuple[TrainingSource, TrainingSource]:
    """CamVid, whose pictures all show novel classes, and the tiles, whose pictures show one each."""
    common = {"dataset": "folder", "fold": fold, "folds": FOLDS, "scheme": "interleaved"}
    camvid = TrainingSource(
        **common,
        root=root / "camvid",
        exclude="masks",
        held_folder="val",
        labels=dict(enumerate(CAMVID_NAMES)),
        void=(11,),
        min_area=800,
    )
    return camvid, TrainingSource(**common, root=root / "mt_defects", mask_threshold=1, held_share=0.0)


def novel_questions(data: TrainingData) -> list[tuple[str, Pair]]:
    """Episodes of the novel classes, spread evenly over them."""
    episodes = data.evaluation
    assert isinstance(episodes, CorrectedEpisodes)
    count = min(QUESTIONS, len(episodes))
    made = []
    for number in range(count):
        episode = episodes.episode(0, number * len(episodes) // count)
        shown = []
        for sample in (episode.references[0], episode.target):
            read = sample.read()
            shown.append(Shown(f"{data.name}/{sample.name}", lambda read=read: read.image, read.truth.mask))
        made.append((episode.class_name, Pair(*shown)))
    return made


def train_one(
    method: str, seed: int, sources: Sequence[Any], store: FrozenStore, args: argparse.Namespace, path: Path
) -> None:
    """Trains one encoder and saves it."""
    encoder, distribution = METHODS[method]
    samples = 1 if distribution.family == "none" else 10
    batches = PromptBatches(sources, store, encoder, size=8)
    task = PromptTask(store.sam, encoder, distribution, PromptTrainConfig(samples=samples))
    config = TrainConfig(
        steps=args.steps,
        seed=seed,
        optimiser="muon",
        learning_rate=3e-3,
        warmup_steps=20,
        weight_decay=1e-4,
        ema_decay=0.98,
        log_every=100,
        save_every=200,
    )
    began = time.perf_counter()
    result = train(task, batches, config, path.with_suffix(""), resume=True)
    if result.stopped:
        raise SystemExit(f"Stopped by {result.stopped}; the same command goes on.")
    said = {"method": method, "seed": seed, "steps": result.step, "seconds": time.perf_counter() - began}
    save_encoder(
        path,
        {name: np.asarray(array) for name, array in result.averaged["encoder"].items()},
        config=encoder,
        distribution=distribution,
        metadata={**said, "features": store.features.name, "sam": store.sam.name, "size": args.size},
    )


def ask(
    path: Path, store: FrozenStore, questions: Mapping[str, Sequence[tuple[str, Pair]]]
) -> dict[str, Any]:
    """Intersection and union of every question with the mean prompt, at the picture's size."""
    stored = read_encoder(path)
    encoder = encoder_of(stored.config, stored.arrays)
    predictor = Predictor(store.features, store.sam, encoder, stored.distribution)
    found: dict[str, Any] = {}
    for name, pairs in questions.items():
        found[name] = [[owner, *answer(predictor, store, pair)] for owner, pair in pairs]
    return found


def answer(predictor: Predictor, store: FrozenStore, pair: Pair) -> tuple[int, int]:
    """Pixels in both and in either of mask and truth."""
    reference, target = (store.get(shown.key, shown.image) for shown in (pair.reference, pair.target))
    prompts = predictor.prompts(prompt_reference(predictor, reference, pair.reference.mask), target.features)
    scene = EncodedScene(target.scene, target.raster)
    logits = np.asarray(predictor.decode(scene, prompts.mean[None]))
    return overlap(scene.proposals(logits).masks[0], pair.target.mask)


def overlap(mask: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Pixels of both, and of either."""
    return int((mask & truth).sum()), int((mask | truth).sum())


def match(
    features: str, generator: TinySam, questions: Mapping[str, Sequence[tuple[str, Pair]]]
) -> dict[str, Any]:
    """The same of training-free matching, whose masks the same small SAM makes."""
    config = SoftmatcherConfig.embedded("tiny")
    config = replace(config, decision=replace(config.decision, min_resemblance=NO_BAR))
    extractor = (
        TinyFeaturesExtractor(generator.network)
        if features == "tiny"
        else DenseDescriptor(DescriptorConfig(stride=8))
    )
    method = SoftmatcherOneClass(Softmatcher(extractor, generator, config))
    found: dict[str, Any] = {}
    for name, pairs in questions.items():
        found[name] = []
        for number, (owner, pair) in enumerate(pairs):
            reference = pair.reference.image(), MaskAnnotation(pair.reference.mask)
            mask = method(pair.target.image(), [reference], key=jax.random.key(number)).mask
            found[name].append([owner, *overlap(mask, pair.target.mask)])
    return found


def prompt_reference(predictor: Predictor, picture: Frozen, mask: Any) -> PromptReference:
    """A reference whose features are at hand."""
    cells = mask_to_grid(mask, picture.features.grid, predictor.config.to_grid)
    return PromptReference(
        picture.features, cells, deepen(predictor.features, picture.features.values, cells)
    )


def summary(answers: Mapping[str, Any]) -> dict[str, float]:
    """The score of each set."""
    return {name: round(score(name, rows), 4) for name, rows in answers.items()}


def score(name: str, rows: Sequence[Any]) -> float:
    """Mean over classes of pooled IoU; of regions, which have no classes, the mean IoU."""
    if name == "bsds500":
        return float(np.mean([both / max(either, 1) for _, both, either in rows]))
    pooled: dict[str, list[int]] = {}
    for owner, both, either in rows:
        sums = pooled.setdefault(owner, [0, 0])
        sums[0] += both
        sums[1] += either
    return float(np.mean([both / max(either, 1) for both, either in pooled.values()]))


def print_table(runs: Path, seeds: Sequence[int], methods: Sequence[str]) -> None:
    """Every contender, and its paired difference to VRP-SAM with a 95 % interval over episodes.

    Below, the same over the seeds.
    """
    print(f"\n| seed | encoder | {' | '.join(SETS)} |\n|---|---|{'---|' * len(SETS)}")
    for seed in seeds:
        found = {
            method: json.loads(path.read_text())
            for method in methods
            if (path := runs / f"{method}_{seed}.json").exists()
        }
        for method, answers in found.items():
            cells = []
            for name in SETS:
                cell = f"{score(name, answers[name]):.3f}"
                if method != "vrp" and "vrp" in found:
                    cell += f": {difference(name, found['vrp'][name], answers[name])}"
                cells.append(cell)
            print(f"| {seed} | {method} | {' | '.join(cells)} |")
    for method in methods:
        if method != "vrp":
            cells = [over_seeds(runs, seeds, method, name) for name in SETS]
            print(f"| all | {method} | {' | '.join(cells)} |")


def over_seeds(runs: Path, seeds: Sequence[int], method: str, name: str) -> str:
    """The mean difference to VRP-SAM, with a 95 % interval of Student's t over seeds (and so over folds)."""
    gaps = []
    for seed in seeds:
        files = [runs / f"{each}_{seed}.json" for each in ("vrp", method)]
        if all(file.exists() for file in files):
            base, other = (score(name, json.loads(file.read_text())[name]) for file in files)
            gaps.append(other - base)
    if len(gaps) < 2:
        return ""
    half = stats.t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
    mean = np.mean(gaps)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}] ({len(gaps)} seeds)"


def difference(name: str, base: Sequence[Any], other: Sequence[Any]) -> str:
    """The paired difference; episodes are drawn again within their class."""
    rng, owners = np.random.default_rng(0), np.array([row[0] for row in base])
    groups = [np.arange(len(base))]
    if name != "bsds500":
        groups = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    drawn = []
    for _ in range(1000):
        places = np.concatenate([rng.choice(group, len(group)) for group in groups])
        drawn.append(score(name, [other[k] for k in places]) - score(name, [base[k] for k in places]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{score(name, other) - score(name, base):+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
