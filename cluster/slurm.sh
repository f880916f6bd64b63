#!/usr/bin/env bash
# A Ray cluster for as long as one Slurm job lasts, and a command that runs on it. From the repository:
#
#   sbatch --nodes=4 cluster/slurm.sh python jobs/run.py -c configs/cluster.yaml --workspace /shared/mer-ray
#   sbatch --nodes=1 --gpus-per-node=1 cluster/slurm.sh python jobs/train.py -c …        with GPUs
#
# Options of sbatch override those below. What runs Ray is one of these, the same on all nodes:
#
#   MER_RAY_VENV=/shared/venv                                       a virtual environment; default .venv
#   MER_RAY_CONTAINER="apptainer exec --nv --bind /shared mer.sif"  or a container's words before each command
#
# Shortly before its time is up the job is queued again, and goes on where it stopped; so it does when it is preempted
# or loses a node. With `sbatch --no-kill` the loss of a node costs that node only, but the loss of the first one leaves
# the others waiting until the time is up. MER_RAY_SCRATCH (default /tmp) is where Ray keeps its files on a node; keep
# it short.
#SBATCH --job-name=mer-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=4G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mer-ray-%j.log
set -euo pipefail

[[ $# -gt 0 ]] || { echo "what to run? sbatch cluster/slurm.sh python jobs/run.py -c … --workspace …" >&2; exit 2; }
: "${SLURM_JOB_ID:?this script is for sbatch}"
cd "${SLURM_SUBMIT_DIR:-.}"

if [[ -n ${MER_RAY_CONTAINER:-} ]]; then
  read -ra inside <<<"$MER_RAY_CONTAINER"
else
  inside=()
  venv=${MER_RAY_VENV:-$PWD/.venv}
  [[ -x $venv/bin/ray ]] || { echo "no Ray in $venv: make test sets up .venv, or set MER_RAY_VENV" >&2; exit 2; }
  export PATH="$venv/bin:$PATH"
fi

# Each job has a token, ports and a folder of its own, so that two of them can share a node.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # at the end there is nothing to wait for
head=$(hostname -I | cut -d' ' -f1)            # Slurm runs this script on the job's first node
port=$((20000 + SLURM_JOB_ID % 1000 * 10))
folder=${MER_RAY_SCRATCH:-/tmp}/mer-ray-$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
n=${SLURM_JOB_NUM_NODES:-1}
options=(--block --disable-usage-stats --log-color=false --temp-dir="$folder" --num-cpus="${SLURM_CPUS_PER_TASK:-1}"
  --dashboard-agent-listen-port=0 --min-worker-port=0 --max-worker-port=0)
# Ray sees the memory of the whole node, not the job's share of it.
megabytes=${SLURM_MEM_PER_NODE:-$((${SLURM_MEM_PER_CPU:-0} * ${SLURM_CPUS_PER_TASK:-1}))}
if ((megabytes > 0)); then
  options+=(--memory=$((megabytes * 7 / 10 * 2 ** 20)) --object-store-memory=$((megabytes / 5 * 2 ** 20)))
fi
step=(srun --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --overlap
  --no-kill --kill-on-bad-exit=0 --wait=0) # one node's loss must not end the others

steps=() command='' signal=''
end() { # whatever happens, what was started ends
  trap '' USR1 TERM INT
  for process in ${command:+"$command"} "${steps[@]}"; do
    kill -TERM "$process" 2>/dev/null || true
    wait "$process" || true
  done
  srun --nodes="$n" --ntasks="$n" --ntasks-per-node=1 --overlap --no-kill rm -rf "$folder" || true
  if [[ $signal == USR1 ]]; then
    echo "time is up: queued again, to go on where it stopped"
    scontrol requeue "$SLURM_JOB_ID"
  fi
}
trap end EXIT
trap 'signal=USR1' USR1
trap 'signal=TERM' TERM INT

"${step[@]}" --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" "${inside[@]}" \
  ray start --head --node-ip-address="$head" --port="$port" --ray-client-server-port=$((port + 2)) \
  --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) "${options[@]}" &
steps+=($!)
until [[ -e $folder/ray_current_cluster ]]; do # `ray start` writes it last
  kill -0 "${steps[0]}" 2>/dev/null || { echo "the head of Ray did not start; its messages are above" >&2; exit 1; }
  sleep 1
done
if ((n > 1)); then
  "${step[@]}" --nodes=$((n - 1)) --ntasks=$((n - 1)) --exclude="$SLURMD_NODENAME" "${inside[@]}" \
    ray start --address="$head:$port" "${options[@]}" &
  steps+=($!)
fi

status=0
outcome() { # of the command; without its head it would wait for ever
  wait -n "$command" "${steps[0]}" || status=$?
  if [[ -z $signal ]] && ! kill -0 "${steps[0]}" 2>/dev/null; then
    echo "the head of Ray has ended; its messages are above. Submitted again, the job goes on where it stopped" >&2
    status=1
  fi
}

# A stage takes the CPUs that are there when it starts: wait for all nodes, but not for ever.
export RAY_ADDRESS=$head:$port
"${inside[@]}" python - "$n" <<'PYTHON' &
import sys, time
import ray

wanted, deadline = int(sys.argv[1]), time.monotonic() + 300
ray.init(logging_level="ERROR", log_to_driver=False)
while (here := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < deadline:
    time.sleep(1)
there = ray.cluster_resources()
print(f"Ray: {here} of {wanted} nodes, {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs", flush=True)
PYTHON
command=$!
outcome

if [[ -z $signal && $status == 0 ]]; then
  "${inside[@]}" "$@" &
  command=$!
  outcome
fi
exit "$status"
