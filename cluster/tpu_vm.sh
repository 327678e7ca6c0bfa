#!/usr/bin/env bash
# Trains a run on a slice of TPU VMs: makes it, runs an image on each worker, and again whenever it was preempted.
# Call it: IMAGE=... SHARE=10.0.0.2:/runs cluster/tpu_vm.sh SLICE --config=gpt2_124m --workdir=/runs/gpt2
# Change zone and type. IMAGE is that of cluster/Dockerfile; SHARE (NFS), there as /runs, must outlive the slice.
set -euo pipefail
slice=${1:?the name of the slice} zone=${ZONE:-us-west4-a} type=${TYPE:-v5litepod-16} version=${VERSION:-v2-alpha-tpuv5-lite}

tpu() { gcloud compute tpus tpu-vm "$1" "$slice" --zone="$zone" --quiet "${@:2}"; }
state() { tpu describe --format='value(state)' 2>/dev/null || echo ABSENT; }
ready() {
  case $(state) in
    ABSENT) # there may be no room yet
      until tpu create --accelerator-type="$type" --version="$version" --spot || [ "$(state)" != ABSENT ]; do sleep 60; done ;;
    PREEMPTED | TERMINATED) tpu delete && ready ;;
  esac
}

# What a broken connection left running saves and stops first.
prepare="sudo docker stop --time=300 train 2>/dev/null; sudo docker rm train 2>/dev/null
  mountpoint -q /runs || { sudo apt-get -qq update && sudo apt-get -qq install nfs-common && sudo mkdir -p /runs &&
    sudo mount -t nfs ${SHARE:?HOST:/FOLDER} /runs; } &&
  sudo gcloud auth configure-docker --quiet ${IMAGE%%/*} && sudo docker pull --quiet ${IMAGE:?the image to run}"
train="sudo docker run --init --name=train --privileged --net=host --volume=/runs:/runs $IMAGE train$(printf ' %q' "${@:2}")"

while ready; do
  status=0
  { tpu ssh --worker=all --command="$prepare" && tpu ssh --worker=all --command="$train"; } || status=$?
  case $status in
    0) tpu delete && exit ;;
    75 | 255) ;; # preempted; the connection was lost
    *) # a slice that is taken away ends in any status
      [ "$(state)" != READY ] || exit "$status"
      sleep 60 ;;
  esac
done
