"""Time, error and memory of SAM's image encoder on one picture, against torch.

    python bench/image_encoder.py                    # ViT-B; about three minutes on two cores
    python bench/image_encoder.py --preset large     # or huge
    python bench/image_encoder.py --smoke            # a small encoder, one round
    python bench/image_encoder.py --device gpu       # both on the accelerator, float32 and bfloat16

The peer is transformers' ``SamVisionModel`` in float32. Both sides have the same weights (random, with
biases, gains and positions as training leaves them) and the same picture of 1024 x 1024. Contenders run in
turn, once in each round; ratios are medians over rounds. The machine must be idle: the threads of torch
wait for each other after every operation. The device is chosen before JAX and torch are imported.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from decoder import machine, turns

SMOKE = {
    "encoder_dim": 64,
    "encoder_depth": 2,
    "encoder_heads": 4,
    "encoder_mlp_dim": 128,
    "encoder_window": 3,
    "global_attention": (1,),
    "image_size": 128,
    "embedding_size": 8,
    "dim": 64,
    "heads": 4,
}
BAR = 1.0  # ours is to be no slower than torch


def reference(config: Any, device: str) -> Any:
    """Transformers' network with weights as training leaves them."""
    import torch
    from transformers import SamVisionModel

    from softmatch_jax.models.sam.image_encoder_torch import vision_config

    model = SamVisionModel._from_config(vision_config(config), attn_implementation="sdpa").eval()
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name or name.endswith("bias") or "pos" in name:
            value.copy_(0.2 * noise + ("norm" in name and name.endswith("weight")))
        else:
            value.copy_(noise / math.sqrt(value[0].numel()))
    torch.backends.cudnn.allow_tf32 = False
    return model.to("cuda" if device == "gpu" else "cpu")


class Bench:
    """One network on both sides, and one picture."""

    def __init__(self, options: argparse.Namespace) -> None:
        from softmatch_jax.models.sam.config import SamConfig

        self.options, self.on_gpu = options, options.device == "gpu"
        self.config = SamConfig(**SMOKE) if options.smoke else getattr(SamConfig, options.preset)()
        self.model = reference(self.config, options.device)
        side = self.config.image_size
        self.pixels = np.random.default_rng(0).normal(size=(side, side, 3)).astype(np.float32)

    def torch(self, dtype: str) -> Callable[[], np.ndarray]:
        """A call of transformers' network, from the host and back to it."""
        import torch

        model = self.model.to(getattr(torch, dtype))
        given = torch.from_numpy(self.pixels.transpose(2, 0, 1).copy())[None]

        def run() -> np.ndarray:
            with torch.inference_mode():
                made = model(given.to(model.device, model.dtype)).last_hidden_state[0]
                return made.flatten(1).T.float().cpu().numpy()

        return run

    def ours(self, dtype: str) -> tuple[Callable[[], np.ndarray], str]:
        """A call of ours, and how long it took to compile and what it sets aside."""
        import jax

        from softmatch_jax.models.sam.convert import convert_encoder
        from softmatch_jax.models.sam.static_graph import split

        tensors = {f"vision_encoder.{k.removeprefix('vision_encoder.')}": v for k, v in self.weights()}
        graph, state = split(convert_encoder(tensors, self.config, "transformers", dtype=dtype))
        begun = time.perf_counter()
        encode = jax.jit(lambda state, pixels: graph.merge(state)(pixels))
        compiled = encode.lower(state, self.pixels).compile()
        taken = time.perf_counter() - begun
        temporaries = compiled.memory_analysis().temp_size_in_bytes / 1e6
        return (
            lambda: np.asarray(compiled(state, self.pixels)),
            f"{taken:.1f} s to compile, XLA temporaries {temporaries:.0f} MB",
        )

    def weights(self) -> Any:
        """Names and tensors of the peer."""
        return self.model.state_dict().items()

    def times(self) -> None:
        """The table of times."""
        print("| encoder | torch | ours | ours to torch | difference / range | rounds |")
        print("|---" * 6 + "|", flush=True)
        notes, exact = [], None
        for dtype in ("float32", "bfloat16") if self.on_gpu else ("float32",):
            ours, note = self.ours(dtype)
            calls = {"torch": self.torch(dtype), "ours": ours}
            if not self.options.smoke:
                turns(calls, budget=0, least=1)
            least, most = (1, 1) if self.options.smoke else (3, 7)
            times = turns(calls, budget=90, least=least, most=most)
            exact = times.results["torch"] if exact is None else exact
            off = [float(np.abs(times.results[name] - exact).max() / np.ptp(exact)) for name in calls]
            told = f"{off[1]:.1e}" + ("" if dtype == "float32" else f" (torch {off[0]:.1e})")
            ratio, bar = times.ratio("torch", "ours"), "" if self.options.smoke else f" (bar {BAR})"
            name = "smoke" if self.options.smoke else f"ViT-{self.options.preset[0].upper()}"
            cells = [
                f"{name}, {dtype}",
                f"{1e3 * times.median('torch'):.0f} ms",
                f"{1e3 * times.median('ours'):.0f} ms",
                f"{ratio:.2f} x{bar}",
                told,
                str(len(times.seconds["ours"])),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            notes.append(f"{dtype}: {note}.")
        print("\n" + "\n".join(notes), flush=True)

    def peak(self, which: str) -> int | None:
        """Growth of the process by one call of a contender."""
        from decoder_peers import growth

        return growth(self.ours("float32")[0] if which == "ours" else self.torch("float32"))

    def memory(self) -> None:
        """Growth of fresh processes."""
        if self.on_gpu:
            return
        for which in ("torch", "ours"):
            if self.options.smoke:
                taken = self.peak(which)
            else:
                command = [sys.executable, __file__, "--preset", self.options.preset, "--peak", which]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
                taken = None if said == "None" else int(said)
            told = "not measured here" if taken is None else f"{taken / 1e6:.0f} MB"
            print(f"Peak above what was there, {which}: {told}.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a small encoder, one round")
    parser.add_argument("--preset", choices=("base", "large", "huge"), default="base")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--peak", choices=("torch", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Before JAX is imported.
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.peak:
        return print(Bench(options).peak(options.peak))
    said = machine()
    bench = Bench(options)
    print(said, end="\n\n", flush=True)
    bench.times()
    bench.memory()


if __name__ == "__main__":
    main()
