"""Which of ONNX Runtime's execution providers a `--device` means."""
from __future__ import annotations

from typing import Any

from transforms.failure import Failure, WrongUsage

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    """Providers in order of preference, with their options, for `auto`, `cpu`, `cuda` or `cuda:N`.

    CUDA chooses its convolutions by a rule and not by a race, so that the same hardware gives the same bytes. Raises
    Failure where a GPU is asked for and the runtime has none, WrongUsage for another word."""
    import onnxruntime

    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise WrongUsage(f"--device is auto, cpu, cuda or cuda:N, not {device}")
    here = onnxruntime.get_available_providers()
    if kind == "cuda" and CUDA not in here:
        raise Failure("--device cuda: this ONNX Runtime has no CUDA: pip install onnxruntime-gpu, or --device cpu")
    if kind == "cpu" or CUDA not in here:
        return [(CPU, {})]
    return [(CUDA, {"device_id": int(number or 0), "cudnn_conv_algo_search": "HEURISTIC"}), (CPU, {})]
