#!/bin/bash
# The Debian packages of cluster.sh, if they are missing.
set -euo pipefail
if ! command -v slurmctld slurmd srun munged >/dev/null || ! ldconfig -p | grep -q libpmi2; then
    [ "$(id -u)" = 0 ] || { echo 'make test-slurm starts a SLURM cluster of its own: run it as root' >&2; exit 2; }
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends slurm-wlm slurm-client munge libpmi2-0
fi
