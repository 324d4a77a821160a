"""The two convolutional image encoders written in torch, with the names of the published files."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

VGG_PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class Block(nn.Module):
    def __init__(self, inputs, width, stride, dilation):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if inputs != 4 * width:
            conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.inputs, self.dilation = 128, 1
        self.layer1 = self.layer(64, 3, 1)
        self.layer2 = self.layer(128, 4, 2)
        self.layer3 = self.layer(256, 6, 2, dilate=True)
        self.layer4 = self.layer(512, 3, 2, dilate=True)

    def layer(self, width, blocks, stride, dilate=False):
        before = self.dilation
        if dilate:
            self.dilation, stride = self.dilation * stride, 1
        made = []
        for index in range(blocks):
            first = index == 0
            made.append(Block(self.inputs, width, stride if first else 1, before if first else self.dilation))
            self.inputs = 4 * width
        return nn.Sequential(*made)

    def forward(self, x):
        """Layers 2 and 3."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = torch.relu(norm(conv(x)))
        middle = self.layer2(self.layer1(self.maxpool(x)))
        return middle, self.layer3(middle)


class Vgg16(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for width in VGG_PLAN:
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            else:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
        self.features = nn.Sequential(*layers)

    def forward(self, x):
        """Layers 2 and 3."""
        middle = self.features[:24](x)
        return middle, self.features[24:34](middle)

    def layer4(self, x):
        return self.features[34:43](x)


def random_network(kind, seed=0):
    """A network of random weights and statistics, whose activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    network = {"resnet50": ResNet50, "vgg16": Vgg16}[kind]()

    def uniform(tensor, low, high):
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            limit = (6 / module.weight[0].numel()) ** 0.5
            uniform(module.weight, -limit, limit)
            if module.bias is not None:
                uniform(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            uniform(module.weight, 0.3, 1.2)
            uniform(module.bias, -0.3, 0.3)
            uniform(module.running_mean, -0.5, 0.5)
            uniform(module.running_var, 0.4, 2.0)
    return network.eval().requires_grad_(False)


def as_vrp_sam(network):
    """The names in a data-parallel checkpoint of VRP-SAM: layer0 to layer4, and what it trained."""
    parts = OrderedDict()
    if isinstance(network, ResNet50):
        stem = [network.conv1, network.bn1, nn.ReLU(), network.conv2, network.bn2, nn.ReLU()]
        parts["layer0"] = nn.Sequential(*stem, network.conv3, network.bn3, nn.ReLU(), network.maxpool)
        parts |= {f"layer{i}": getattr(network, f"layer{i}") for i in range(1, 5)}
    else:
        cuts = (0, 7, 14, 24, 34, 43)
        parts |= {f"layer{i}": nn.Sequential(*network.features[cuts[i] : cuts[i + 1]]) for i in range(5)}
    parts["downsample_query"] = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False))
    parts["merge_1"] = nn.Sequential(nn.Conv2d(9, 4, 1, bias=False))
    parts["transformer_decoder"] = nn.ModuleDict({"supp_q_feat": nn.Embedding(5, 4)})
    state = nn.ModuleDict(parts).state_dict()
    return {f"module.{name}": value for name, value in state.items()}


def as_timm(network):
    """The names of timm's resnet50s, the classifier included."""
    stem = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
    stem |= {"conv3": "conv1.6", "bn3": "bn1"}
    state = {}
    for name, value in network.state_dict().items():
        module, _, last = name.rpartition(".")
        state[f"{stem.get(module, module)}.{last}"] = value
    return state | {"fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)}
