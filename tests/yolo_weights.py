"""Weights of ultralytics' kinds, small enough to be made in a test, and the drawn people that they find."""
from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())  # ultralytics writes its settings there when it is imported

SIDE = 128
"""Of the pictures that `trained` learns from."""
BODY = {
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C3k2", [32, False, 0.5]],
                 [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C3k2", [64, False, 0.5]],
                 [-1, 1, "Conv", [96, 3, 2]], [-1, 1, "C3k2", [96, False, 0.5]], [-1, 1, "SPPF", [96, 5]]],
    "head": [[-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 4], 1, "Concat", [1]], [-1, 1, "C3k2", [64, False]]]}
"""Layers up to strides 8 and 16: YOLO11's blocks, few and narrow."""


def drawn_people(random: np.random.Generator, width: int = SIDE, height: int = SIDE, people: int = 2
                 ) -> tuple[np.ndarray, list[np.ndarray]]:
    """A plain picture (uint8 [H, W, 3], RGB) of figures with a head and a body, 42 to 84 pixels high, and the mask (bool
    [H, W]) of each. They stand apart, and beside them is a plain disc, which is nobody. Three have room in 128 pixels.
    Nothing has blue, by which `insightface_weights` knows its markers."""
    color = tuple(random.integers((150, 150, 0), (256, 256, 60)).tolist())
    picture, masks = PIL.Image.new("RGB", (width, height), color), []
    seen = PIL.ImageDraw.Draw(picture)
    slots = random.permutation(people + 1).tolist()
    for slot in slots[1:]:
        tall = int(random.integers(SIDE // 3, 2 * SIDE // 3))
        wide = tall // 3
        x0 = slot * width // len(slots) + int(random.integers(0, width // len(slots) - wide))
        y0 = int(random.integers(0, height - tall))
        mask = PIL.Image.new("L", (width, height))
        for canvas, skin, cloth in ((seen, (220, 160, 50), (120, 30, 40)), (PIL.ImageDraw.Draw(mask), 255, 255)):
            canvas.ellipse((x0 + wide / 4, y0, x0 + 3 * wide / 4, y0 + wide / 2 + 1), skin)
            canvas.rectangle((x0, y0 + wide // 2, x0 + wide - 1, y0 + tall - 1), cloth)
        masks.append(np.asarray(mask) > 0)
    x0, y0 = slots[0] * width // len(slots), int(random.integers(0, height - SIDE // 5))
    seen.ellipse((x0, y0, x0 + SIDE // 5, y0 + SIDE // 5), (60, 140, 50))
    return np.asarray(picture), masks


def box_of(mask: np.ndarray) -> np.ndarray:
    """float64 [4], x0 y0 x1 y1: the box of a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def network(names: list[str], segment: bool, seed: int = 0) -> Any:
    """An untrained DetectionModel or SegmentationModel of the classes `names`."""
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel

    torch.manual_seed(seed)
    top = ["Segment", ["nc", 16, 32]] if segment else ["Detect", ["nc"]]
    layers = {**BODY, "head": [*BODY["head"], [[10, 7], 1, *top]], "nc": len(names), "ch": 3}
    model = (SegmentationModel if segment else DetectionModel)(layers, nc=len(names), verbose=False)
    model.names, model.args, model.task = dict(enumerate(names)), get_cfg(), "segment" if segment else "detect"
    return model


def save(model: Any, path: Path, /, **more: Any) -> Path:
    """A checkpoint such as ultralytics' trainer leaves it: half floats, with the arguments that it was trained with."""
    import copy

    import torch

    torch.save({"model": copy.deepcopy(model).half(), "ema": None, "train_args": {"imgsz": SIDE, "task": model.task},
                "license": "AGPL-3.0 (https://ultralytics.com/license)", **more}, path)
    return path


def trained(path: Path, steps: int = 250, pictures: int = 6) -> Path:
    """A checkpoint that finds and outlines `drawn_people`: 27 s on one busy core, and finds 40 of 40."""
    import torch

    model = network(["person"], segment=True).train()
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        drawn = [drawn_people(random, people=int(random.integers(1, 4))) for _ in range(pictures)]
        boxes = [box_of(mask) / SIDE for _, masks in drawn for mask in masks]
        order = [number for number, (_, masks) in enumerate(drawn) for _ in masks]
        loss, _ = model.loss({
            "img": torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).float() / 255,
            "batch_idx": torch.tensor(order).float(), "cls": torch.zeros(len(order), 1),
            "bboxes": torch.from_numpy(np.stack([[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes])
                                       ).float(),
            "masks": torch.from_numpy(np.stack([sum(mask * np.uint8(n + 1) for n, mask in enumerate(masks))
                                                for _, masks in drawn]))})
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        schedule.step()
    return save(model, path)
