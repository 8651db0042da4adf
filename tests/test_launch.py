# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Recipes of launch/: they parse, their flags mean something, their loops do what they say."""

import os
import pathlib
import re
import stat
import subprocess

import gin
import pytest
import yaml

from mto_jax import cli, config
from mto_jax.commands import plan
from mto_jax.models.config import T5Config

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(path.name for path in [*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
RECIPES = sorted(p.name for p in LAUNCH.iterdir() if p.suffix in (".sh", ".sbatch", ".yaml"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash(name):
    assert subprocess.run(["bash", "-n", LAUNCH / name]).returncode == 0
    assert os.access(LAUNCH / name, os.X_OK)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "again.sh"])
def test_recipes_say_where_data_are_and_what_failure_does(name):
    text = (LAUNCH / name).read_text()
    for word in ("Data     ", "Shared   ", "Failure  "):
        assert f"# {word}" in text
    for file in re.findall(r"--gin_file=(\S+\.gin)", text):
        assert file in config.bundled()
    assert f"[{name}]({name})" in (LAUNCH / "README.md").read_text()


def test_jobset_has_what_kubernetes_requires():
    job, jobset = yaml.safe_load_all((LAUNCH / "jobset.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (slices,) = jobset["spec"]["replicatedJobs"]
    train = slices["template"]["spec"]
    # A pod for each host: 4 x 4 chips, 4 to a host.
    pod = train["template"]["spec"]
    (container,) = pod["containers"]
    x, y = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    hosts = int(x) * int(y) // container["resources"]["limits"]["google.com/tpu"]
    assert train["parallelism"] == train["completions"] == hosts
    assert train["backoffLimit"] == 0  # the JobSet restarts all pods, not the Job one
    (rule,) = train["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [2]}
    assert jobset["spec"]["failurePolicy"]["rules"][0]["onJobFailureReasons"] == [
        "PodFailurePolicy"
    ]
    for spec in (job["spec"]["template"]["spec"], pod):
        assert spec["restartPolicy"] == "Never"
        (only,) = spec["containers"]
        assert {"name", "image", "args"} <= only.keys()
        assert only["args"][0] in cli.VERBS
        names = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in only["volumeMounts"]} == names
        _load(only["args"][1:])
        assert T5Config().d_model == 1024


def test_skypilot_has_what_a_task_requires():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert {"name", "num_nodes", "resources", "setup", "run", "workdir", "file_mounts"} <= {*task}
    assert task["resources"]["job_recovery"]["strategy"] == "FAILOVER"
    assert task["file_mounts"]["/shared"]["mode"] == "MOUNT"
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True).returncode == 0
    flags = re.findall(r"--gin[\w.]*=[^\s\"]+", task["run"])
    _load([re.sub(r"\$\w+", "x", flag) for flag in flags])
    assert T5Config().dtype == "bfloat16"


def _load(flags: list[str]) -> None:
    """Reads flags of `mto` as the command line does."""
    files = [flag.partition("=")[2] for flag in flags if flag.startswith("--gin_file=")]
    gin.clear_config()
    bindings = [flag[6:].split("=", 1) for flag in flags if flag.startswith("--gin.")]
    config.load(files, [config.binding(*pair) for pair in bindings], optional=plan.OPTIONAL_MACROS)


@pytest.mark.parametrize(
    ("statuses", "runs", "status"),
    [([1, 134, 0], 3, 0), ([2], 1, 2), ([130], 1, 130), ([1, 1, 1, 1], 3, 1)],
)
def test_a_command_runs_again_until_it_ends_well(tmp_path, statuses, runs, status):
    command = f"echo >> runs; set -- {' '.join(map(str, statuses))}; shift $(($(wc -l < runs) - 1))"
    done = subprocess.run(
        [LAUNCH / "again.sh", "bash", "-c", f"{command}; exit $1"],
        cwd=tmp_path,
        env={**os.environ, "TIMES": "2", "PAUSE": "0"},
    )
    assert done.returncode == status
    assert (tmp_path / "runs").read_text().count("\n") == runs


GCLOUD = """#!/bin/bash
# Stands in for gcloud: a queued resource, which is taken away during the first training.
echo "$@" >> calls
case "$*" in
  *"queued-resources describe"*) cat state 2> /dev/null ;;
  *"queued-resources create"*) echo ACTIVE > state ;;
  *"queued-resources delete"*) rm state ;;
  *"mto train"*) test -e taken && exit 0; touch taken; echo SUSPENDED > state; exit 143 ;;
esac
"""


def test_a_spot_slice_that_is_taken_away_is_asked_for_again(tmp_path):
    for name, text in (("gcloud", GCLOUD), ("git", "#!/bin/bash\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(stat.S_IRWXU)
    (tmp_path / "launch").symlink_to(LAUNCH)
    done = subprocess.run(
        ["launch/tpu_spot.sh", "--gin.MODEL_DIR=/mnt/shared/a b"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PAUSE": "0",
            "PROJECT": "p",
            "MOUNT": "mount here",
        },
        timeout=60,
    )
    assert done.returncode == 0
    calls = (tmp_path / "calls").read_text()
    assert len(re.findall("queued-resources create", calls)) == 2
    assert len(re.findall("queued-resources delete", calls)) == 1
    train = r"mto train --coordinator_address=auto --gin.MODEL_DIR=/mnt/shared/a\ b"
    assert calls.count(f"{train} --gin_file=hardware/tpu.gin") == 2
    assert calls.count("mount here") == 2
