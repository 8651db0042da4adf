#!/bin/bash
# One host with one or several NVIDIA GPUs. Run in a checkout:
#
#   launch/gpu.sh --gin_file=models/t5_1_1_base.gin --gin_file=runs/pretrain.gin --gin.mesh.fsdp=-1 --gin.mesh.data=1 \
#     --gin.MIXTURE_OR_TASK_NAME=c4_span_corruption --gin.MODEL_DIR=/data/runs/c4_base
#
# Data     prepared here, before training, in MTO_CACHE_DIR (/data/prepared).
# Shared   nothing: MODEL_DIR and MTO_CACHE_DIR are folders of this host.
# Failure  a crash starts the run again from the newest good checkpoint (again.sh); after SIGTERM or a reboot
#          the same command goes on.
set -euo pipefail
export MTO_CACHE_DIR=${MTO_CACHE_DIR:-/data/prepared}
test -d .venv || python3 -m venv .venv
.venv/bin/pip install --quiet '.[cuda]'
.venv/bin/mto prepare "$@"
exec launch/again.sh .venv/bin/mto train "$@" --gin_file=hardware/gpu.gin
