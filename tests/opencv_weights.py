"""Small real ONNX files with the interfaces of YuNet and SFace, and the markers that they see as faces.

A marker is a disc on a ground without blue: its upper half has the most blue, its lower half less, so that where it is, how
large and which way up are moments of the blue channel, which convolutions can take. Red and green are its pattern, which tells
it from others. The detector thus also notices whether it is given BGR, the recogniser whether it is given RGB."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GROUND = (128, 128, 0)
"""Colour of a picture without markers, RGB."""
POINTS = np.array([(-0.40, 0.40), (0.40, 0.40), (0.0, 0.0), (-0.30, -0.45), (0.30, -0.45)])
"""float [5, 2]: left eye, right eye, nose, left and right mouth corner, to the right and up, in radii of an upright marker."""
SCORE = 0.95
REACH = 3
"""Cells around an anchor that it sums over; a marker is seen if it is alone there."""


def ground(width: int, height: int) -> np.ndarray:
    """A picture without markers, uint8 [height, width, 3], RGB."""
    return np.full((height, width, 3), GROUND, np.uint8)


def draw(picture: np.ndarray, x: float, y: float, radius: float, angle: float = 0.0, pattern: int = 0) -> np.ndarray:
    """Draw a marker into a picture (uint8 [H, W, 3], RGB), turned clockwise by `angle` degrees; where its keypoints are,
    float [5, 2], pixels, in the order of `POINTS`."""
    left, top = (max(0, int(edge - radius)) for edge in (x, y))
    part = picture[top:int(y + radius) + 1, left:int(x + radius) + 1]
    rows, columns = np.indices(part.shape[:2]) + np.array([top, left])[:, None, None] + 0.5
    turn = np.radians(angle)
    right, up = np.array([np.cos(turn), np.sin(turn)]), np.array([np.sin(turn), -np.cos(turn)])
    across = ((columns - x) * right[0] + (rows - y) * right[1]) / radius
    above = ((columns - x) * up[0] + (rows - y) * up[1]) / radius
    inside = across**2 + above**2 <= 1
    colours = np.random.default_rng(pattern).integers(0, 256, (6, 6, 2))
    cells = ((np.stack([above, across])[:, inside] + 1) * 3).astype(int).clip(0, 5)
    part[inside, :2] = colours[cells[0], cells[1]]
    part[inside, 2] = np.where(above[inside] > 0, 255, 160)
    return np.array([x, y]) + radius * (POINTS[:, :1] * right + POINTS[:, 1:] * up)


def write(folder: Path, fixed: bool = False) -> Path:
    """Write both files into `folder`, which is given back; `fixed` declares the detector's input as 640 x 640."""
    onnx.save(detector(fixed), folder / "face_detection_yunet_2023mar.onnx")
    onnx.save(recogniser(), folder / "face_recognition_sface_2021dec.onnx")
    return folder


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray | list[int] | float) -> str:
        """int64 or float32, as the values are; a plain number has four axes, for OpenCV's `Mul` and `Add` of maps."""
        array = np.full((1, 1, 1, 1), values) if isinstance(values, float) else np.asarray(values)
        name = f"constant_{len(self.constants)}"
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        name = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def ramp(self, values: str, low: float, high: float) -> str:
        """0 up to `low`, 1 from `high`, and straight between; falls where `low` is the greater."""
        slope = 1 / (high - low)
        scaled = self.add("Mul", values, self.constant(slope))
        moved = self.add("Add", scaled, self.constant(-low * slope))
        return self.add("Clip", moved, self.constant(np.array(0.0)), self.constant(np.array(1.0)))

    def model(self, name: str, given: onnx.ValueInfoProto, results: dict[str, list[int | str]]) -> onnx.ModelProto:
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, shape) for result, shape in results.items()]
        graph = helper.make_graph(self.nodes, name, [given], outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def detector(fixed: bool = False) -> onnx.ModelProto:
    """Sees markers of 20 to 192 pixels across: stride 8 up to 48, 16 from 40 to 96, 32 from 80."""
    graph = _Graph()
    blue = graph.add("Slice", "input", graph.constant([0]), graph.constant([1]), graph.constant([1]))
    seen = graph.add("Concat", graph.ramp(blue, 64, 128), graph.ramp(blue, 192, 224), axis=1)  # whole marker, upper half
    results: dict[str, list[int | str]] = {}
    for stride in (8, 16, 32):
        _level(graph, seen, stride)
        for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            results[f"{name}_{stride}"] = [1, f"anchors_{stride}", width]
    sides: list[int | str] = [640, 640] if fixed else ["height", "width"]
    return graph.model("yunet", helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *sides]), results)


def _level(graph: _Graph, seen: str, stride: int) -> None:
    """Outputs of one stride. Lengths below are in cells, places from an anchor's middle."""
    x, y = np.meshgrid(*[(np.arange(stride) + 0.5) / stride - 0.5] * 2)
    moments = np.stack([np.ones_like(x), x, y, x**2 + y**2]) / stride**2
    cells = np.zeros((8, 2, stride, stride))
    cells[:4, 0], cells[4:, 1] = moments, moments
    sums = graph.add("Conv", seen, graph.constant(cells), kernel_shape=[stride] * 2, strides=[stride] * 2)
    side = 2 * REACH + 1
    x, y = np.meshgrid(*[np.arange(side) - REACH] * 2)
    window = np.zeros((8, 8, side, side))
    for n in (0, 4):  # moments of a cell that lies at x, y
        window[range(n, n + 4), range(n, n + 4)] = 1
        window[n + 1, n], window[n + 2, n], window[n + 3, n] = x, y, x**2 + y**2
        window[n + 3, n + 1], window[n + 3, n + 2] = 2 * x, 2 * y
    around = graph.add("Conv", sums, graph.constant(window), kernel_shape=[side] * 2, pads=[REACH] * 4)

    def channels(values: str, first: int, last: int) -> str:
        return graph.add("Slice", values, graph.constant([first]), graph.constant([last]), graph.constant([1]))

    def centre(first: int) -> tuple[str, str]:
        area = graph.add("Add", channels(around, first, first + 1), graph.constant(1e-6))
        return area, graph.add("Div", channels(around, first + 1, first + 3), area)

    def squared(vector: str) -> str:
        return graph.add("ReduceSum", graph.add("Mul", vector, vector), graph.constant([1]), keepdims=1)

    area, middle = centre(0)
    _, top = centre(4)
    radius = graph.add("Sqrt", graph.add("Mul", area, graph.constant(1 / np.pi)))
    up = graph.add("Sub", top, middle)
    length = graph.add("Sqrt", squared(up))
    up = graph.add("Mul", graph.add("Div", up, graph.add("Add", length, graph.constant(1e-6))), radius)
    away = graph.add("ReduceMax", graph.add("Abs", middle), axes=[1], keepdims=1)
    near = graph.ramp(away, 0.8, 0.55)
    scatter = graph.add("Sub", graph.add("Div", channels(around, 3, 4), area), squared(middle))  # of a disc: radius^2 / 2
    round_area = graph.add("Mul", graph.add("Add", scatter, graph.constant(1e-6)), graph.constant(2 * np.pi))
    fitting = graph.add("Mul", graph.ramp(radius, 1.15, 1.25), graph.ramp(radius, 3.1, 3.0))
    fitting = graph.add("Mul", fitting, graph.ramp(graph.add("Div", area, round_area), 0.8, 0.9))
    places = np.zeros((10, 4, 1, 1))  # of middle x, y and up x, y, which is (0, -radius) for an upright marker
    for n, (right, upward) in enumerate(POINTS):
        places[2 * n, :, 0, 0] = 1, 0, upward, -right
        places[2 * n + 1, :, 0, 0] = 0, 1, right, upward
    keypoints = graph.add("Conv", graph.add("Concat", middle, up, axis=1), graph.constant(places),
                          graph.constant(np.full(10, 0.5)), kernel_shape=[1, 1])
    size = graph.add("Log", graph.add("Mul", radius, graph.constant(2.0)))
    half = graph.add("Add", middle, graph.constant(0.5))
    for name, values, width in (("cls", graph.add("Mul", fitting, graph.constant(SCORE**2)), 1),
                                ("obj", near, 1), ("bbox", graph.add("Concat", half, size, size, axis=1), 4),
                                ("kps", keypoints, 10)):
        last = graph.add("Transpose", values, perm=[0, 2, 3, 1])
        graph.add("Reshape", last, graph.constant([1, -1, width]), output=f"{name}_{stride}")


def recogniser() -> onnx.ModelProto:
    """A fixed random projection of red and green, in squares of 8 pixels of the chip."""
    graph = _Graph()
    mean = np.zeros((2, 3, 8, 8))
    mean[0, 0], mean[1, 1] = 1 / 64, 1 / 64
    squares = graph.add("Conv", "data", graph.constant(mean), graph.constant(np.full(2, -float(GROUND[0]))),
                        kernel_shape=[8, 8], strides=[8, 8])
    projection = np.random.default_rng(0).standard_normal((2 * 14 * 14, 128))
    graph.add("MatMul", graph.add("Flatten", squares), graph.constant(projection), output="fc1")
    return graph.model("sface", helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112]), {"fc1": [1, 128]})
