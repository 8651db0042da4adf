#!/bin/bash
# A TPU slice of several hosts (v5litepod-16 and up, v5p-16 and up, v6e-16 and up), driven from a laptop with gcloud.
# The slice exists (gcloud compute tpus tpu-vm create, or tpu_spot.sh) and all its hosts mount SHARED:
#
#   NAME=mto ZONE=us-west4-a SHARED=/mnt/shared launch/tpu_pod.sh --gin_file=models/t5_1_1_large.gin \
#     --gin_file=runs/pretrain.gin --gin.MIXTURE_OR_TASK_NAME=c4_span_corruption \
#     --gin.MODEL_DIR=/mnt/shared/runs/c4_large --gin.mesh.fsdp=-1 --gin.mesh.data=1
#
# Data     prepared by host 0, before training, in SHARED/prepared.
# Shared   SHARED, on all hosts: MODEL_DIR and the prepared data. Filestore by NFS, or a bucket by Cloud Storage FUSE.
#          Code and environment are copied to every host.
# Failure  a process that dies ends the others within 100 s or so; then all are started again from the newest good checkpoint
#          (again.sh). SIGTERM to one host saves and stops all. A host without SHARED ends the run with a sentence.
set -euo pipefail
: "${NAME:=mto}" "${ZONE:=us-west4-a}" "${SHARED:=/mnt/shared}"
on() { gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"; }

git archive --prefix=mto-jax/ HEAD | gzip > /tmp/mto-jax.tar.gz
gcloud compute tpus tpu-vm scp /tmp/mto-jax.tar.gz "$NAME": --zone="$ZONE" --worker=all
on all "tar xf mto-jax.tar.gz && cd mto-jax && python3 -m pip install --quiet uv &&
  python3 -m uv venv --allow-existing --python 3.12 .venv && python3 -m uv pip install --quiet --python .venv '.[tpu]'"
arguments=$(printf ' %q' "$@")
on 0 "cd mto-jax && MTO_CACHE_DIR=$SHARED/prepared .venv/bin/mto prepare$arguments"
# What was left of processes of an earlier try would hold the chips.
train="cd mto-jax && MTO_CACHE_DIR=$SHARED/prepared .venv/bin/mto train --coordinator_address=auto$arguments"
export -f on
export NAME ZONE
exec launch/again.sh bash -c 'on all "$1"' bash "$train --gin_file=hardware/tpu.gin"
