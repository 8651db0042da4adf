#!/bin/bash
# A TPU slice at the spot price, by queued resources: asked for, waited for, trained on by tpu_pod.sh, and asked for again
# when it was taken away. Runs on a laptop or a small VM for as long as the training takes:
#
#   NAME=mto ZONE=us-west4-a TYPE=v5litepod-16 PROJECT=my-project MOUNT='sudo mount 10.0.0.2:/shared /mnt/shared' \
#     launch/tpu_spot.sh --gin_file=... (as tpu_pod.sh has it)
#
# Data     prepared by host 0 in SHARED/prepared, once: it outlives the slice.
# Shared   SHARED (/mnt/shared), which MOUNT, a command, mounts on every host of a new slice.
# Failure  a slice that is taken away sends SIGTERM to its hosts: the run saves, if it has the seconds, and in any case goes on from
#          the newest good checkpoint on the next slice. Only a mistake told in words (status 2) ends the loop.
set -uo pipefail
: "${NAME:=mto}" "${ZONE:=us-west4-a}" "${TYPE:=v5litepod-16}" "${SHARED:=/mnt/shared}" "${PROJECT:?}" "${MOUNT:?}"
case $TYPE in
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v5p-*) version=v2-alpha-tpuv5 ;;
  v6e-*) version=v2-alpha-tpuv6e ;;
  *) echo "TYPE=$TYPE: expected v5litepod-N, v5p-N or v6e-N" >&2 && exit 2 ;;
esac
queued() { gcloud compute tpus queued-resources "$1" "$NAME" --project="$PROJECT" --zone="$ZONE" "${@:2}"; }
state() { queued describe --format='value(state.state)' 2> /dev/null; }

while true; do
  case $(state) in
    ACTIVE)
      gcloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" --worker=all \
        --command="mountpoint -q $SHARED || { sudo mkdir -p $SHARED && $MOUNT; }"
      NAME=$NAME ZONE=$ZONE SHARED=$SHARED TIMES=2 CLOUDSDK_CORE_PROJECT=$PROJECT launch/tpu_pod.sh "$@"
      status=$?
      case $status in 0 | 2 | 130) exit $status ;; esac
      ;;
    "") queued create --node-id="$NAME" --accelerator-type="$TYPE" --runtime-version="$version" --spot ;;
    FAILED | SUSPENDED | SUSPENDING) queued delete --force --quiet ;;
    *) ;; # ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING, DELETING
  esac
  sleep "${PAUSE:-60}"
done
