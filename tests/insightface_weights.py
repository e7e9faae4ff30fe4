"""Real ONNX files that insightface loads: a detector with SCRFD's nine outputs that finds drawn squares, and an embedder of
ArcFace's form that tells their patterns apart.

A marker is a square whose blue is full, on a ground without blue. The detector measures it as a person would: its area in a
window gives the side, its centre of mass the middle. Red and green are the marker's own pattern, which the embedder sees."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from transforms import digests

CELL = 8
"""Pixels of the grid on which blue is measured."""
WINDOW = 41
"""Cells of the window around a place: markers whose middles are nearer than half of it disturb each other."""
KEYPOINTS = np.array([[-0.2, -0.15], [0.2, -0.15], [0.0, 0.05], [-0.15, 0.25], [0.15, 0.25]])
"""From a marker's middle, in sides: left eye, right eye, nose, corners of the mouth."""
GROUND = (127, 127, 0)


def draw(pixels: np.ndarray, name: str, x: int, y: int, side: int, take: str = "") -> None:
    """Draw one marker, upper left corner at x, y, on uint8 [H, W, 3]. Its pattern comes from `name`, and a part of it from
    `take`."""
    cells = digests.generator("marker", name).integers(0, 2, (8, 8, 2)) * 200 + 20.0
    if take:
        cells = 0.55 * cells + 0.45 * (digests.generator("take", name, take).integers(0, 2, (8, 8, 2)) * 200 + 20)
    at = np.arange(side) * 8 // side
    pixels[y:y + side, x:x + side, :2] = cells[at][:, at]
    pixels[y:y + side, x:x + side, 2] = 255


def picture(width: int, height: int, *markers: tuple[str, int, int, int] | tuple[str, int, int, int, str]) -> np.ndarray:
    """uint8 [height, width, 3] with markers (name, x, y, side, perhaps take)."""
    pixels = np.full((height, width, 3), GROUND, np.uint8)
    for marker in markers:
        draw(pixels, *marker)
    return pixels


class _Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray | list | float) -> str:
        array = np.asarray(value)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.int64 if array.dtype.kind == "i" else np.float32), name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def save(self, path: Path, inputs: list, outputs: list) -> None:
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def write_detector(path: Path, batched: bool = False) -> None:
    """SCRFD's form: scores, boxes and keypoints of strides 8, 16, 32, two anchors a place, of which the second is idle."""
    graph = _Graph()
    blue = graph.add("Slice", "input", *(graph.constant([value]) for value in (2, 3, 1)))
    present = graph.add("Clip", graph.add("Add", graph.add("Mul", blue, graph.constant(8.0)), graph.constant(0.5)),
                        graph.constant(0.0), graph.constant(1.0))
    cells = graph.add("AveragePool", present, kernel_shape=[CELL, CELL], strides=[CELL, CELL])
    offsets = (np.arange(WINDOW) - WINDOW // 2) * float(CELL)
    across = np.broadcast_to(offsets, (WINDOW, WINDOW))
    kernels = np.stack([np.ones((WINDOW, WINDOW)), across, across.T])[:, None] * CELL ** 2
    sums = graph.add("Conv", cells, graph.constant(kernels), pads=[WINDOW // 2] * 4)
    area, x_sum, y_sum = (graph.add("Slice", sums, *(graph.constant([value]) for value in (at, at + 1, 1))) for at in range(3))
    safe = graph.add("Max", area, graph.constant(1.0))
    middle = graph.constant((CELL - 1) / 2)
    x, y = (graph.add("Add", graph.add("Div", total, safe), middle) for total in (x_sum, y_sum))
    side = graph.add("Sqrt", safe)
    outputs: dict[str, list[str]] = {"score": [], "bbox": [], "kps": []}
    for stride in (8, 16, 32):
        step = stride // CELL
        here = {name: graph.add("Slice", map_, graph.constant([0, 0]), graph.constant([2**31, 2**31]), graph.constant([2, 3]),
                                graph.constant([step, step]))
                for name, map_ in {"on": cells, "x": x, "y": y, "side": side}.items()}
        off = graph.add("Add", graph.add("Abs", here["x"]), graph.add("Abs", here["y"]))
        near = graph.add("Clip", graph.add("Sub", graph.constant(1.0), graph.add("Mul", off, graph.constant(0.45 / CELL))),
                         graph.constant(0.0), graph.constant(1.0))
        half = graph.add("Mul", here["side"], graph.constant(0.5))
        score = graph.add("Mul", near, here["on"])
        edges = [graph.add("Sub", half, here["x"]), graph.add("Sub", half, here["y"]),
                 graph.add("Add", half, here["x"]), graph.add("Add", half, here["y"])]
        points = [graph.add("Add", here[axis], graph.add("Mul", here["side"], graph.constant(float(share))))
                  for point in KEYPOINTS for axis, share in zip("xy", point, strict=True)]
        for kind, maps in (("score", [score]), ("bbox", edges), ("kps", points)):
            stacked = graph.add("Concat", *maps, axis=1)
            scaled = stacked if kind == "score" else graph.add("Mul", stacked, graph.constant(1 / stride))
            both = graph.add("Concat", scaled, graph.add("Mul", scaled, graph.constant(0.0)), axis=1)
            last = graph.add("Transpose", both, perm=[0, 2, 3, 1])
            shape = [0, -1, len(maps)] if batched else [-1, len(maps)]
            outputs[kind].append(graph.add("Reshape", last, graph.constant(shape), output=f"{kind}_{stride}"))
    widths = {"score": 1, "bbox": 4, "kps": 10}
    graph.save(path, [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n" if batched else 1, 3, "h", "w"])],
               [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"] * batched + [f"places_{name}", widths[kind]])
                for kind, names in outputs.items() for name in names])


def write_embedder(path: Path, batch: int | str = "n", dimensions: int = 64) -> None:
    """ArcFace's form: 112 x 112 aligned faces to vectors, here a fixed random projection of 14 x 14 cells of red and green."""
    graph = _Graph()
    colors = graph.add("Slice", "data", *(graph.constant([value]) for value in (0, 2, 1)))
    cells = graph.add("AveragePool", colors, kernel_shape=[8, 8], strides=[8, 8])
    projection = np.random.default_rng(0).standard_normal((2 * 14 * 14, dimensions))
    graph.add("Gemm", graph.add("Flatten", cells), graph.constant(projection), output="embedding")
    graph.save(path, [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, 112, 112])],
               [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dimensions])])


def write_pack(folder: Path, batched: bool = False, batch: int | str = "n") -> Path:
    """A folder of both, as insightface keeps its packs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_detector(folder / "det_markers.onnx", batched)
    write_embedder(folder / "w_markers.onnx", batch)
    return folder
