# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the package index shows, and that continuous integration runs one script everywhere."""

import pathlib
import re
import runpy
import shutil

import pytest
import setuptools
import yaml

ROOT = pathlib.Path(__file__).parents[1]
ADDRESS = "https://example.org/org/name"


def setup_arguments(folder, monkeypatch) -> dict:
    """The arguments with which `folder`/setup.py calls setup()."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(folder)
    runpy.run_path(str(folder / "setup.py"))
    return given


@pytest.mark.parametrize("address", [ADDRESS, None])
def test_the_long_description_has_whole_addresses(address, tmp_path, monkeypatch):
    (tmp_path / "mto_jax").mkdir()
    for name in ("setup.py", "README.md", "CITATION.cff", "mto_jax/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    citation = (tmp_path / "CITATION.cff").read_text()
    citation = re.sub(r"^repository-code:.*\n", "", citation, flags=re.MULTILINE)
    line = f'repository-code: "{address}"\n' if address else ""
    (tmp_path / "CITATION.cff").write_text(citation + line)
    given = setup_arguments(tmp_path, monkeypatch)
    links = re.findall(r"\]\(([^)]+)\)", given["long_description"])
    assert all(link.startswith(("https://", "#")) for link in links)
    urls = given["project_urls"]
    assert urls["Paper"].startswith("https://doi.org/10.")
    assert urls.get("Source") == address
    assert "docs/results.md" not in links
    assert (f"{ADDRESS}/raw/main/docs/quickstart.png" in links) == bool(address)
    assert (f"{ADDRESS}/blob/main/docs/results.md" in links) == bool(address)


def test_the_workflow_runs_what_ci_runs():
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [
        ".ci/run",
        "make walkthroughs test-beam test-ray",
    ]


def test_every_relative_link_of_the_readme_is_there():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text()):
            assert "://" in link or (ROOT / link).exists(), f"{name}: {link}"
