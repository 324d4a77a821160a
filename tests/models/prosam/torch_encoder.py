"""The prompt encoder once more in torch, from the list of its layers and with the published names.

VRP-SAM's; ``outputs`` chooses what stands behind it: nothing (0), so many linear layers, or the two heads of
ProSAM ("prosam").
"""

from __future__ import annotations

import math

import torch
from torch import nn

PUBLISHED = {"channels": 1536, "dim": 256, "prompts": 50, "heads": 4}


def sine_positions(height, width, dim):
    """``[h * w, dim]``, the rows' positions and then the columns', each wave as sine and cosine."""
    result = torch.zeros(height, width, dim, dtype=torch.float64)
    half = dim // 2
    for channel in range(half):
        wave = 10000 ** (2 * (channel // 2) / half)
        turn = math.cos if channel % 2 else math.sin
        for row in range(height):
            result[row, :, channel] = turn((row + 1) / (height + 1e-6) * 2 * math.pi / wave)
        for column in range(width):
            result[:, column, half + channel] = turn((column + 1) / (width + 1e-6) * 2 * math.pi / wave)
    return result.reshape(-1, dim)


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens):
        return self.norm(tokens + self.self_attn(tokens, tokens, tokens)[0])


class CrossAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens, rows, positions, padding):
        looked = self.multihead_attn(tokens, rows + positions, rows, key_padding_mask=padding)[0]
        return self.norm(tokens + looked)


class Generator(nn.Module):
    """Queries to prompts; bears the names of the published decoder."""

    def __init__(self, prompts, dim, heads):
        super().__init__()
        self.supp_q_feat = nn.Embedding(prompts, dim)
        self.transformer_cross_attention_layers_0 = nn.ModuleList([CrossAttention(dim, heads)])
        self.transformer_self_attention_layers_0 = nn.ModuleList([SelfAttention(dim, heads)])
        self.transformer_cross_attention_layers = nn.ModuleList([CrossAttention(dim, heads)])
        self.transformer_self_attention_layers = nn.ModuleList([SelfAttention(dim, heads)])

    def forward(self, reference, target, reference_padding, target_padding):
        batch, dim, height, width = reference.shape
        positions = sine_positions(height, width, dim).to(reference.dtype)
        tokens = self.supp_q_feat.weight.expand(batch, -1, -1)
        rows = reference.flatten(2).transpose(1, 2)
        tokens = self.transformer_cross_attention_layers_0[0](tokens, rows, positions, reference_padding)
        tokens = self.transformer_self_attention_layers_0[0](tokens)
        rows = target.flatten(2).transpose(1, 2)
        tokens = self.transformer_cross_attention_layers[0](tokens, rows, positions, target_padding)
        return self.transformer_self_attention_layers[0](tokens)


class TorchEncoder(nn.Module):
    """Features ``[B, c, h, w]`` and masks ``[B, h, w]`` to prompts ``[B, n, dim]``, or to two of these."""

    def __init__(self, *, channels, dim, prompts, heads, outputs):
        super().__init__()
        self.downsample_query = nn.Sequential(
            nn.Conv2d(channels, dim, 1, bias=False), nn.ReLU(), nn.Dropout2d(0.5)
        )
        self.merge_1 = nn.Sequential(nn.Conv2d(2 * dim + 1, dim, 1, bias=False), nn.ReLU())
        self.transformer_decoder = Generator(prompts, dim, heads)
        if outputs == "prosam":
            self.mean_head, self.log_sigma_head = nn.Linear(dim, dim), nn.Linear(dim, dim)
        elif outputs:
            self.extra = nn.Sequential(*(nn.Linear(dim, dim) for _ in range(outputs)))
        self.outputs = outputs

    def forward(self, reference, mask, target, pseudo, reference_valid=None, target_valid=None):
        near, far = self.downsample_query(reference), self.downsample_query(target)
        inside = mask if reference_valid is None else mask * reference_valid
        prototype = (near * inside[:, None]).sum((2, 3)) / (inside.sum((1, 2)) + 0.0005)[:, None]
        tiled = prototype[:, :, None, None].expand_as(near)
        near = self.merge_1(torch.cat([near, tiled, 10 * mask[:, None]], 1))
        far = self.merge_1(torch.cat([far, tiled, 10 * pseudo[:, None]], 1))
        paddings = [None if v is None else ~v.flatten(1) for v in (reference_valid, target_valid)]
        tokens = self.transformer_decoder(near, far, *paddings)
        if self.outputs == "prosam":
            return self.mean_head(tokens), self.log_sigma_head(tokens)
        return (self.extra(tokens) if self.outputs else tokens), None


def trained(outputs, *, seed=0, **sizes):
    """An encoder in float64 with weights that float32 holds, none of them zero, in evaluation."""
    network = TorchEncoder(**(PUBLISHED | sizes), outputs=outputs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() == 1:
                value.copy_(0.2 * noise + name.endswith("norm.weight"))
            elif "supp_q_feat" in name:
                value.copy_(noise)
            else:
                value.copy_(1.5 * noise / math.sqrt(value[0].numel()))
    return network.double().eval()


def state(network):
    """The weights by name, float32."""
    return {name: value.detach().float().numpy() for name, value in network.state_dict().items()}


def gradients(network):
    """The gradients of the weights by name."""
    return {name: value.grad.float().numpy() for name, value in network.named_parameters()}
