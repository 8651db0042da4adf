#!/bin/bash
# One TPU VM (v5litepod-1, -4 or -8, v6e-1, -4 or -8): made, filled and trained on from a laptop with gcloud:
#
#   NAME=mto ZONE=us-west4-a TYPE=v5litepod-8 launch/tpu_vm.sh --gin_file=models/t5_1_1_base.gin \
#     --gin_file=runs/pretrain.gin --gin.MIXTURE_OR_TASK_NAME=c4_span_corruption --gin.MODEL_DIR=/mnt/disk/runs/c4_base \
#     --gin.mesh.fsdp=-1 --gin.mesh.data=1
#
# Data     prepared on the VM, before training, in MTO_CACHE_DIR.
# Shared   nothing. MODEL_DIR and MTO_CACHE_DIR lie on a disk that outlives the VM, mounted as /mnt/disk
#          (gcloud compute tpus tpu-vm attach-disk), or in a bucket that Cloud Storage FUSE mounts there.
# Failure  a crash starts the run again (again.sh). A VM that was taken away: the same command makes a new one and
#          goes on from the newest good checkpoint. Delete the VM yourself when the run has ended.
set -euo pipefail
: "${NAME:=mto}" "${ZONE:=us-west4-a}" "${TYPE:=v5litepod-8}" "${CACHE:=/mnt/disk/prepared}"
case $TYPE in
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v5p-*) version=v2-alpha-tpuv5 ;;
  v6e-*) version=v2-alpha-tpuv6e ;;
  *) echo "TYPE=$TYPE: expected v5litepod-N, v5p-N or v6e-N" >&2 && exit 2 ;;
esac
on_vm() { gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --command="cd mto-jax && $1"; }

gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" > /dev/null 2>&1 ||
  gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" --version="$version"
git archive --prefix=mto-jax/ HEAD | gzip > /tmp/mto-jax.tar.gz
gcloud compute tpus tpu-vm scp /tmp/mto-jax.tar.gz "$NAME": --zone="$ZONE"
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --command="tar xf mto-jax.tar.gz"
# The images have Python 3.10; uv brings a later one.
on_vm "python3 -m pip install --quiet uv && python3 -m uv venv --allow-existing --python 3.12 .venv &&
  python3 -m uv pip install --quiet --python .venv '.[tpu]'"
arguments=$(printf ' %q' "$@")
on_vm "MTO_CACHE_DIR=$CACHE .venv/bin/mto prepare$arguments"
on_vm "MTO_CACHE_DIR=$CACHE launch/again.sh .venv/bin/mto train$arguments --gin_file=hardware/tpu.gin"
