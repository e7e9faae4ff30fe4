"""A pack of ONNX files of the shapes that insightface publishes, whose weights are random: real work, nothing to fetch.

Batch normalisation after a convolution is folded into it, as torch exports it. Multiplications and additions of one input:
IResNet-50 6.3 G (3 x 112 x 112), SCRFD-10G 13.3 G (3 x 640 x 640; its name counts 640 x 480), counted in the graphs."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests import insightface_weights

ARCFACE_STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Channels and blocks: iresnet50 of insightface's recognition/arcface_torch/backbones/iresnet.py."""
SCRFD_STAGES = ((56, 3), (88, 4), (88, 2), (224, 3))
SCRFD_NECK, SCRFD_HEAD = 56, 80
"""Channels and blocks, and channels after them: insightface's detection/scrfd/configs/scrfd/scrfd_10g_bnkps.py."""
ANCHORS = 2
DETECTOR, EMBEDDER = "det_10g.onnx", "w600k_r50.onnx"
"""Named as in the pack buffalo_l."""
SHARE = 1e-6
"""Of the random detector in what a pack's detector says: too little to move a face, enough to be computed."""


class _Network:
    """A graph in the making, of layers with random weights."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._random = np.random.default_rng(0)

    def constant(self, values: np.ndarray | Sequence[float]) -> str:
        array = np.asarray(values)
        name = f"weight_{len(self.graph.initializer)}"
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self.graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"layer_{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def random(self, *shape: int) -> str:
        """Weights [after, before, …] that keep the variance through a ReLU (He et al., ICCV 2015)."""
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return self.constant(self._random.standard_normal(shape, np.float32) * scale)

    def conv(self, x: str, before: int, after: int, kernel: int = 3, stride: int = 1) -> str:
        return self.add("Conv", x, self.random(after, before, kernel, kernel), self.constant(np.zeros(after)),
                        kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def prelu(self, x: str, channels: int) -> str:
        return self.add("PRelu", x, self.constant(np.full((channels, 1, 1), 0.25)))

    def norm(self, x: str, channels: int) -> str:
        zeros, ones = np.zeros(channels), np.ones(channels)
        return self.add("BatchNormalization", x, *(self.constant(values) for values in (ones, zeros, zeros, ones)))


def write_iresnet50(path: Path) -> None:
    """ArcFace's embedder: float32 [n, 3, 112, 112] to [n, 512]."""
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 112, 112])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 512])
    network = _Network(helper.make_graph([], "iresnet50", [data], [embedding]))
    before = ARCFACE_STAGES[0][0]
    x = network.prelu(network.conv("data", 3, before), before)
    for after, blocks in ARCFACE_STAGES:
        for block in range(blocks):
            stride = 1 if block else 2
            shortcut = x if block else network.conv(x, before, after, kernel=1, stride=stride)
            x = network.prelu(network.conv(network.norm(x, before), before, after), after)
            x = network.add("Add", network.conv(x, after, after, stride=stride), shortcut)
            before = after
    flat = network.add("Flatten", network.norm(x, before))
    features = network.add("Gemm", flat, network.random(512, before * 7 * 7), network.constant(np.zeros(512)), transB=1)
    network.add("Identity", network.norm(features, 512), output="embedding")
    _save(network.graph, path)


def write_scrfd(path: Path, batched: bool) -> None:
    """SCRFD-10G with keypoints that finds the markers of `tests.insightface_weights` and does all its own work besides."""
    insightface_weights.write_detector(path, batched)
    graph = onnx.load(str(path)).graph
    wanted = {output.name for output in graph.output}
    for node in graph.node:
        node.output[:] = [f"marker_{name}" if name in wanted else name for name in node.output]
    network = _Network(graph)
    for stride, level in zip((8, 16, 32), _scrfd_levels(network), strict=True):
        before = SCRFD_NECK
        for _ in range(3):
            level, before = network.relu(network.conv(level, before, SCRFD_HEAD)), SCRFD_HEAD
        for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
            last = network.add("Transpose", network.conv(level, SCRFD_HEAD, ANCHORS * width), perm=[0, 2, 3, 1])
            rows = network.add("Reshape", last, network.constant([0, -1, width] if batched else [-1, width]))
            small = network.add("Mul", network.add("Sigmoid", rows), network.constant([SHARE]))
            network.add("Add", f"marker_{kind}_{stride}", small, output=f"{kind}_{stride}")
    _save(graph, path)


def _scrfd_levels(network: _Network) -> list[str]:
    """Backbone (ResNet-V1e) and neck (PAFPN): features [n, 56, h / s, w / s] of strides 8, 16, 32."""
    before = SCRFD_STAGES[0][0]
    x = network.relu(network.conv("input", 3, before // 2, stride=2))
    x = network.relu(network.conv(x, before // 2, before // 2))
    x = network.relu(network.conv(x, before // 2, before))
    x = network.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    stages = []
    for stage, (after, blocks) in enumerate(SCRFD_STAGES):
        for block in range(blocks):
            shrinks = stage > 0 and block == 0
            shortcut = x
            if shrinks:
                shortcut = network.conv(network.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), before, after, 1)
            y = network.relu(network.conv(x, before, after, stride=2 if shrinks else 1))
            x, before = network.relu(network.add("Add", network.conv(y, after, after), shortcut)), after
        stages.append((x, after))
    levels = [network.conv(x, channels, SCRFD_NECK, 1) for x, channels in stages[1:]]
    for at in (1, 0):
        larger = network.add("Resize", levels[at + 1], "", network.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest",
                             coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        levels[at] = network.add("Add", levels[at], larger)
    levels = [network.conv(x, SCRFD_NECK, SCRFD_NECK) for x in levels]
    for at in (1, 2):
        smaller = network.conv(levels[at - 1], SCRFD_NECK, SCRFD_NECK, stride=2)
        levels[at] = network.add("Add", levels[at], smaller)
    return levels[:1] + [network.conv(x, SCRFD_NECK, SCRFD_NECK) for x in levels[1:]]


def _save(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_pack(folder: Path, batched: bool = False) -> Path:
    """A folder of both, as insightface keeps its packs; the detector takes one picture at a time unless `batched`."""
    folder.mkdir(parents=True)
    write_scrfd(folder / DETECTOR, batched)
    write_iresnet50(folder / EMBEDDER)
    return folder
