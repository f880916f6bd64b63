"""The files of cluster/: they fit the schemas of those who read them, agree with each other and hold no secret.

Nothing here starts Ray, a container or a cluster.
"""

import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mer_ray.config import load
from mer_ray.io.objects import local_copy
from mer_ray.stages.experiment import BASE_BYTES, SHARE
from mer_ray.stages.extract import NETWORK_MEMORY as WORKER_BYTES

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
SCHEMAS = ROOT / "tests" / "schemas"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (CLUSTER / "README.md").read_text(encoding="utf-8")
SCALING = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
KEYS = {"LASTFM_API_KEY", "SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET"}
POOLS = ("extract.workers", "score.workers")
PLAIN = ("cpu", "spot")
GIB = 2**30
FRAMES_BYTES = 6_440_000_000
"""MFCC and VGGish of the 9,000 tracks of configs/cluster.yaml, 3 minutes each: docs/scaling.md, "Training"."""
TRIAL_BYTES = int(BASE_BYTES + (SHARE + 1) * 5_580_000_000)
"""Of a trial with a GPU on these MFCCs: `stages.experiment.memory`."""
KUBERNETES = ("1.28", "1.37")  # one that is old by now, and the newest whose schema is at hand


def documents(name):
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def job():
    (document,) = documents("kuberay-rayjob.yaml")
    return document


@pytest.fixture(scope="module")
def nightly():
    (document,) = documents("kuberay-cronjob.yaml")
    return document


@pytest.fixture(scope="module")
def cluster():
    (document,) = documents("kuberay-raycluster.yaml")
    return document


@pytest.fixture(scope="module")
def groups(cluster):
    spec = cluster["spec"]
    return {"head": spec["headGroupSpec"], **{g["groupName"]: g for g in spec["workerGroupSpecs"]}}


@pytest.fixture(scope="module", params=["aws.yaml", "gcp.yaml"])
def launcher(request):
    (document,) = documents(request.param)
    return document


def container(group):
    (only,) = group["template"]["spec"]["containers"]
    return only


def pinned(package):
    """The version in constraints.txt."""
    return re.search(rf"^{package}(?:\[.*\])?==([^\s;]+)", CONSTRAINTS, re.MULTILINE)[1]


def run(*command, **how):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **how)


def instructions():
    """The Dockerfile's, as (word, rest), continued lines joined."""
    text = re.sub(r"\\\n", " ", (CLUSTER / "Dockerfile").read_text(encoding="utf-8"))
    return [tuple(x.split(None, 1)) for x in text.splitlines() if x.strip() and not x.startswith("#")]


def test_every_yaml_file_parses():
    files = sorted(CLUSTER.glob("*.yaml"))
    assert len(files) >= 7
    for file in files:
        assert all(isinstance(d, dict) for d in documents(file.name)), file.name


# Kubernetes


def kuberay_errors(document):
    """What KubeRay would not take, and what Kubernetes would not in the pods it is to make."""
    schema = json.loads((SCHEMAS / "kuberay-1.6.json").read_text(encoding="utf-8"))
    own = jsonschema.Draft7Validator(schema["definitions"][document["kind"]] | {"definitions": schema["definitions"]})
    found = [f"{'/'.join(map(str, e.path))}: {e.message}" for e in own.iter_errors(document)]
    spec = document["spec"].get("jobTemplate", document["spec"])
    found += job_errors(spec) if "rayClusterSpec" in spec else []
    spec = spec.get("rayClusterSpec", spec)
    pods = [g["template"] for g in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    return found + [e for pod in pods for e in kubernetes_errors({"apiVersion": "v1", "kind": "Pod", **pod})]


def job_errors(spec):
    """What the operator refuses in the specification of a RayJob, though its schema takes it (KubeRay 1.6 and 1.7)."""
    found = []
    if spec["submissionMode"] == "SidecarMode":
        found += [f"SidecarMode with {name}" for name in ("submitterPodTemplate", "submitterConfig") if name in spec]
        if spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append("SidecarMode with a head that is started again")
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    if rules and spec.get("shutdownAfterJobFinishes"):
        found.append("deletionRules with shutdownAfterJobFinishes")
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        found.append("ttlSecondsAfterFinished without shutdownAfterJobFinishes")
    after = {}
    for rule in rules:
        ttl = rule["condition"].get("ttlSeconds", 0)
        status = rule["condition"].get("jobStatus", rule["condition"].get("jobDeploymentStatus"))
        if rule["policy"] == "DeleteWorkers" and spec["rayClusterSpec"].get("enableInTreeAutoscaling"):
            found.append("DeleteWorkers beside an autoscaler")
        if rule["policy"] in after.setdefault(status, {}):
            found.append(f"{rule['policy']} twice for {status}")
        after[status][rule["policy"]] = ttl
    for status, of in after.items():
        times = [of[policy] for policy in ("DeleteWorkers", "DeleteCluster", "DeleteSelf") if policy in of]
        if times != sorted(times):
            found.append(f"deletions out of order for {status}")
    return found


def kubernetes_errors(document):
    """What Kubernetes' own schema, unknown fields forbidden, says against an object."""
    found = []
    for release in KUBERNETES:
        try:
            kubernetes_validate.validate(document, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{document['kind']} on {release}: {error.message}")
    return found


@pytest.mark.parametrize("name", ["kuberay-raycluster.yaml", "kuberay-rayjob.yaml", "kuberay-cronjob.yaml"])
def test_kuberay_and_kubernetes_take_the_files(name):
    (document,) = documents(name)
    assert kuberay_errors(document) == []


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (("spec", "shutdownAfterJobFinish"), True),
        (("spec", "submissionMode"), "K8sJob"),
        (("spec", "submitterConfig"), {"backoffLimit": 2}),
        (("spec", "shutdownAfterJobFinishes"), True),
        (("spec", "deletionStrategy", "deletionRules", 0, "policy"), "DeleteWorkers"),
        (("spec", "deletionStrategy", "deletionRules", 0, "condition"), {"ttlSeconds": 1}),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "restartPolicy"), "Always"),
        (("spec", "activeDeadlineSeconds"), "172800"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"), -1),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 1, "template", "spec", "toleration"), []),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "env"), {"A": "b"}),
    ],
)
def test_a_slip_in_the_rayjob_would_be_found(job, where, what):
    broken = json.loads(json.dumps(job))
    inner = broken
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = what
    assert len(kuberay_errors(broken)) in (1, len(KUBERNETES))


def test_kubernetes_takes_the_shared_things_and_the_network_policy():
    for name in ("kuberay-shared.yaml", "kuberay-network.yaml"):
        for document in documents(name):
            assert kubernetes_errors(document) == []


def test_prometheus_operator_takes_the_pod_monitor(groups):
    (monitor,) = documents("kuberay-metrics.yaml")
    jsonschema.validate(monitor, json.loads((SCHEMAS / "podmonitor.json").read_text(encoding="utf-8")))
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for name, group in groups.items():
        assert {"name": endpoint["port"], "containerPort": 8080} in container(group)["ports"], name


@pytest.mark.parametrize("name", sorted(p.name for p in CLUSTER.glob("kuberay-*.yaml")))
def test_kubectl_reads_anchors_as_we_do(name):
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    done = run("kubectl", "label", "--local", "--filename", str(CLUSTER / name), "read=1", "--output", "json")
    assert done.returncode == 0, done.stderr
    ours = documents(name)
    for document in ours:
        document["metadata"].setdefault("labels", {})["read"] = "1"
    assert json.loads("[" + done.stdout.replace("\n}\n{", "\n},{") + "]") == ours  # one object after the other


def test_the_job_brings_the_cluster_that_stands_alone(job, cluster):
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_jobs_end_their_cluster_however_they_end_and_have_deadlines(job, nightly):
    for spec in (job["spec"], nightly["spec"]["jobTemplate"]):
        rules = [{**r["condition"], "policy": r["policy"]} for r in spec["deletionStrategy"]["deletionRules"]]
        gone = [r for r in rules if r["policy"] == "DeleteCluster"]
        assert [r.get("jobStatus", r.get("jobDeploymentStatus")) for r in gone] == ["SUCCEEDED", "Failed"]
        assert all(0 < r["ttlSeconds"] <= 86_400 for r in gone)  # the head stays a while, for its logs
        assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
        assert spec["backoffLimit"] > 0
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True


def test_the_nightly_job_scores_with_all_its_cpus_and_ends_before_the_next_night(nightly):
    spec = nightly["spec"]["jobTemplate"]
    minute, hour, *days = nightly["spec"]["schedule"].split()
    assert (minute.isdigit(), hour.isdigit(), days) == (True, True, ["*"] * 3)
    assert spec["activeDeadlineSeconds"] < 86_400
    command = shlex.split(spec["entrypoint"])
    assert command[:2] == ["python", "jobs/score.py"]
    assert command[3] == "--out"
    assert all(path.startswith("/shared/") for path in (command[2], command[4]))
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]  # no autoscaler: DeleteWorkers is taken
    cpus = group["replicas"] * int(container(group)["resources"]["limits"]["cpu"])
    assert command[5:] == ["--set", f"score.workers={cpus}"]


def test_the_nightly_pods_are_those_of_the_job(nightly, job, groups):
    spec, whole = nightly["spec"]["jobTemplate"]["rayClusterSpec"], job["spec"]["rayClusterSpec"]
    for name in ("rayVersion", "authOptions"):
        assert spec[name] == whole[name]
    (worker,) = spec["workerGroupSpecs"]
    for one, other in ((spec["headGroupSpec"], groups["head"]), (worker, groups["cpu"])):
        assert one["rayStartParams"] == other["rayStartParams"]
        assert container(one) == container(other)
        assert one["template"]["metadata"] == other["template"]["metadata"]
        pod, theirs = one["template"]["spec"], other["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert {k: pod[k] for k in ("securityContext", "volumes")} == {
            k: theirs[k] for k in ("securityContext", "volumes")
        }


def test_kuberay_runs_the_ray_that_is_pinned(cluster):
    assert cluster["spec"]["rayVersion"] == pinned("ray")


def test_rayjob_runs_a_script_and_settings_that_exist(job):
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:4] == ["python", "jobs/run.py", "-c", "configs/cluster.yaml"]
    assert (ROOT / command[1]).is_file()
    assert command[4::2] == ["--set"] * (len(command[4:]) // 2)
    config = load(ROOT / command[3], command[5::2])
    assert config.workspace.startswith("/shared/")
    assert config.label.lexicon is not None
    assert config.label.lexicon.startswith("/shared/")


def test_rayjob_asks_for_as_many_workers_as_the_autoscaler_may_bring(job, groups):
    most = sum(groups[g]["maxReplicas"] * int(container(groups[g])["resources"]["requests"]["cpu"]) for g in PLAIN)
    assert {f"{pool}={most}" for pool in POOLS} <= set(shlex.split(job["spec"]["entrypoint"]))


def test_every_group_has_one_image_resources_and_the_shared_folder(groups):
    assert set(groups) == {"head", *PLAIN, "gpu"}
    for name, group in groups.items():
        pod, only = group["template"]["spec"], container(group)
        assert only["image"] == container(groups["head"])["image"], name
        for bound in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= only["resources"][bound].keys(), name
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]}
        assert {m["mountPath"]: claims[m["name"]] for m in only["volumeMounts"]} == {"/shared": "mer-ray-shared"}, name


def test_worker_groups_scale_within_their_bounds(groups):
    for name in (*PLAIN, "gpu"):
        group = groups[name]
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["maxReplicas"] > 0
    assert groups["gpu"]["minReplicas"] == groups["gpu"]["replicas"] == 0
    assert container(groups["gpu"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert groups["cpu"]["minReplicas"] >= 1  # a stage without a size of its own takes the CPUs that it finds
    assert groups["head"]["rayStartParams"]["num-cpus"] == "0"


def brings(config, *demands):
    """The nodes that Ray's own autoscaler starts on an empty cluster, for so many of each bundle of resources."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.core.generated.autoscaler_pb2 import ResourceRequest, ResourceRequestByCount

    read = AutoscalingConfig(config, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=read.get_node_type_configs(),
        max_num_nodes=read.get_max_num_nodes(),
        resource_requests=[
            ResourceRequestByCount(request=ResourceRequest(resources_bundle=bundle), count=n) for bundle, n in demands
        ],
    )
    return {launch.instance_type: launch.count for launch in ResourceDemandScheduler().schedule(request).to_launch}


def test_rays_autoscaler_brings_cpu_pods_for_workers_and_a_gpu_pod_for_trials(job, cluster):
    from ray.autoscaler._private.kuberay import autoscaling_config

    named = cluster | {"metadata": cluster["metadata"] | {"namespace": "default"}}
    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(named)  # what runs in the head's pod
    workers = int(re.search(r"extract\.workers=(\d+)", job["spec"]["entrypoint"])[1])
    train = load(ROOT / "configs" / "cluster.yaml").train
    trial = {"CPU": train.cpus_per_trial, "GPU": train.gpus_per_trial}
    assert brings(config) == {"cpu": 1}
    assert brings(config, ({"CPU": 1, "memory": WORKER_BYTES}, workers)) == {"cpu": 1, "spot": 3}
    assert brings(config, (trial | {"memory": TRIAL_BYTES}, 4)) == {"cpu": 1, "gpu": 1}


def test_spot_workers_are_the_same_pods_and_the_head_is_none(groups):
    spot, plain = (groups[g]["template"]["spec"] for g in ("spot", "cpu"))
    assert {k: v for k, v in spot.items() if k != "tolerations"} == plain | {"affinity": {}}
    assert "tolerations" not in groups["head"]["template"]["spec"]
    assert groups["spot"]["minReplicas"] == 0


def test_nothing_that_must_stay_goes_to_a_spot_node(groups):
    """Many spot nodes carry no taint that would keep pods off."""
    text = (CLUSTER / "kuberay-rayjob.yaml").read_text(encoding="utf-8")
    expected = {tuple(m.split(": ")) for m in re.findall(r"# nodeSelector: \{(.*)\}", text)}
    for name in ("head", "cpu"):
        term = groups[name]["template"]["spec"]["affinity"]["nodeAffinity"]
        (only,) = term["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        kept_off = {
            (e["key"], json.dumps(v) if v == "true" else v) for e in only["matchExpressions"] for v in e["values"]
        }
        assert kept_off == expected, name
        assert {e["operator"] for e in only["matchExpressions"]} == {"NotIn"}
    assert groups["gpu"]["template"]["spec"]["affinity"] == {}


def test_workers_drain_before_kubernetes_kills_them(groups):
    for name in (*PLAIN, "gpu"):
        drain = next(e["value"] for e in container(groups[name])["env"] if e["name"].endswith("DRAIN_TIMEOUT_S"))
        assert 0 < float(drain) < groups[name]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_gpu_pods_have_room_for_the_trials_that_share_one(groups):
    train = load(CLUSTER.parent / "configs" / "cluster.yaml").train
    trials = 1 / train.gpus_per_trial
    assert int(container(groups["gpu"])["resources"]["requests"]["cpu"]) >= trials * train.cpus_per_trial


def test_dashboard_is_not_exposed_and_asks_for_a_token(cluster, groups):
    assert groups["head"]["serviceType"] == "ClusterIP"
    assert groups["head"]["enableIngress"] is False
    assert cluster["spec"]["authOptions"]["mode"] == "token"


def test_network_policy_lets_nobody_else_in(groups):
    (policy,) = documents("kuberay-network.yaml")
    ours = policy["spec"]["podSelector"]["matchLabels"]
    for name, group in groups.items():
        assert ours.items() <= group["template"]["metadata"]["labels"].items(), name
    among, *others = policy["spec"]["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": ours}}]}
    assert [[p["port"] for p in rule["ports"]] for rule in others] == [[8265], [8080]]
    assert all(peer["podSelector"]["matchLabels"] for rule in others for peer in rule["from"])


def test_pods_run_without_privileges_and_only_the_head_talks_to_kubernetes(groups):
    pods = [g["template"]["spec"] for g in groups.values()] + [
        d["spec"] for d in documents("kuberay-shared.yaml") if d["kind"] == "Pod"
    ]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for only in pod["containers"]:
            assert only["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    asks = [pod.get("automountServiceAccountToken", True) for pod in pods]
    assert asks == [True] + [False] * (len(pods) - 1)


def test_keys_come_from_one_secret_in_every_pod(groups):
    for name, group in groups.items():
        assert container(group)["envFrom"] == [{"secretRef": {"name": "mer-ray-keys", "optional": True}}], name
        assert not KEYS & {e["name"] for e in container(group)["env"]}, name


def test_shared_folder_can_be_written_by_every_node_and_looked_into(groups):
    claim, account, pod = documents("kuberay-shared.yaml")
    assert (claim["kind"], account["kind"], pod["kind"]) == ("PersistentVolumeClaim", "ServiceAccount", "Pod")
    assert claim["metadata"]["name"] == "mer-ray-shared"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (only,) = pod["spec"]["containers"]
    assert only["image"] == container(groups["head"])["image"]
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    for group in groups.values():
        assert group["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]


# The cluster launcher


def test_launcher_file_fits_rays_schema(launcher):
    from ray.autoscaler._private import util

    prepared = util.prepare_config(launcher)
    util.validate_config(prepared)
    assert prepared["provider"]["type"] in ("aws", "gcp")
    assert "3.0.0.dev" not in json.dumps(prepared)  # Ray's defaults would install another Ray


def test_launcher_types_scale_and_share_one_image(launcher, groups):
    types = launcher["available_node_types"]
    assert launcher["head_node_type"] in types
    assert launcher["docker"]["image"] == container(groups["head"])["image"]
    assert types["gpu"]["min_workers"] == types["spot"]["min_workers"] == 0
    assert types["cpu"]["min_workers"] == 1
    assert launcher["max_workers"] == sum(t["max_workers"] for t in types.values())
    assert any("/shared:/shared" in option for option in launcher["docker"]["run_options"])


def test_rays_autoscaler_brings_cpu_nodes_for_workers_and_a_gpu_node_for_trials(launcher):
    from ray.autoscaler._private import util

    config = util.prepare_config(json.loads(json.dumps(launcher)))
    plain = {"CPU": 16, "memory": int(0.7 * 64 * GIB)}
    for name, size in {"cpu": plain, "spot": plain, "gpu": plain | {"GPU": 1}}.items():  # Ray asks Amazon for them
        config["available_node_types"][name]["resources"] = launcher["available_node_types"][name]["resources"] or size
    workers = int(re.search(r"ray dashboard work/.*?extract\.workers=(\d+)", README, re.DOTALL)[1])
    assert brings(config) == {"cpu": 1}
    assert brings(config, ({"CPU": 1, "memory": WORKER_BYTES}, workers)) == {"cpu": 1, "spot": 3}
    assert brings(config, ({"CPU": 1, "GPU": 0.25, "memory": TRIAL_BYTES}, 4)) == {"cpu": 1, "gpu": 1}


# The sums of docs/scaling.md, "Memory of a node"


def table():
    """Its rows: node → [CPUs, GiB of all, of workers, of objects, of the rest]."""
    section = SCALING.split("## Memory of a node")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|" + r"([^|\n]+)\|" * 5, section, re.MULTILINE)
    return {name: [float(number) for number in numbers] for name, *numbers in rows}


def test_the_pods_have_the_memory_that_they_promise_ray(groups):
    rows = table()
    for name, group in groups.items():
        limits, promised = container(group)["resources"]["limits"], group["rayStartParams"]
        whole = float(limits["memory"].removesuffix("Gi"))
        workers, objects = (int(promised[key]) / GIB for key in ("memory", "object-store-memory"))
        rest = whole - workers - objects
        assert rest >= (4 if name == "head" else 1), name  # Ray's own processes; on the head, the driver as well
        cpus = float(promised.get("num-cpus", limits["cpu"]))
        row = rows[f"KubeRay, {'cpu' if name == 'spot' else name}"]
        assert row == [cpus, whole, workers, objects, rest], name


def test_every_node_has_the_memory_for_its_workers_trials_and_frames():
    nodes = {name: row for name, row in table().items() if not name.endswith("head")}
    assert {name.split(",")[0] for name in nodes} == {"KubeRay", "aws.yaml", "gcp.yaml", "slurm.sh"}
    for name, (cpus, whole, workers, objects, rest) in nodes.items():
        assert workers + objects + rest == pytest.approx(whole, abs=0.11), name
        assert rest >= 1 or name.startswith("aws"), name  # there, Ray shares out what is free when it starts
        assert cpus * WORKER_BYTES <= workers * GIB, name
        assert objects * GIB >= FRAMES_BYTES, name
        if name.endswith("gpu"):
            assert workers * GIB >= 4 * TRIAL_BYTES, name


def test_a_pod_has_the_disk_for_the_audio_that_its_workers_copy(groups):
    most = inspect.signature(local_copy).parameters["max_mb"].default * 1e6
    for name in PLAIN:
        limits = container(groups[name])["resources"]["limits"]
        assert int(limits["cpu"]) * most <= int(limits["ephemeral-storage"].removesuffix("Gi")) * GIB


def test_launcher_takes_spot_machines_for_spot_workers_only(launcher):
    expected = {"spot", "SPOT"}
    for name, kind in launcher["available_node_types"].items():
        market = kind["node_config"].get("InstanceMarketOptions", {}) | kind["node_config"].get("scheduling", {})
        assert bool(expected & set(market.values())) == (name == "spot"), name


def test_launcher_keeps_the_dashboard_on_the_node_and_reads_the_token(launcher):
    starts = [
        c for c in launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"] if "ray start" in c
    ]
    assert len(starts) == 2
    assert all(c.startswith(". ~/.mer-ray/env && ") for c in starts)
    assert all("--metrics-export-port=8080" in c for c in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.mer-ray" in launcher["file_mounts"]


def test_launcher_installs_nothing_without_its_version(launcher):
    commands = launcher["setup_commands"] + launcher["head_setup_commands"]
    assert [c for c in commands if "pip install" in c and "==" not in c] == []


def test_launcher_commands_are_bash(launcher):
    for key in (k for k in launcher if k.endswith("commands")):
        for command in launcher[key]:
            done = run("bash", "-n", "-c", command)
            assert done.returncode == 0, (command, done.stderr)


# Slurm (tests/test_slurm.py runs the script)


def test_slurm_script_passes_shellcheck():
    shellcheck = Path(sys.executable).parent / "shellcheck"
    for command in (["bash", "-n"], [str(shellcheck), "--severity=warning"]):
        done = run(*command, str(CLUSTER / "slurm.sh"))
        assert done.returncode == 0, done.stdout + done.stderr


def test_slurm_options_stand_before_the_first_command_and_are_distinct():
    lines = (CLUSTER / "slurm.sh").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    options = [i for i, x in enumerate(lines) if x.startswith("#SBATCH ")]
    first = next(i for i, x in enumerate(lines) if x and not x.startswith("#"))
    assert options
    assert max(options) < first  # Slurm reads no further
    names = [lines[i].split()[1].split("=")[0] for i in options]
    assert len(names) == len(set(names))
    assert {"--requeue", "--signal", "--open-mode"} <= set(names)
    assert "--no-kill" not in names  # the loss of the first node would not queue the job again


# The image, and what is uploaded


def stages():
    """The Dockerfile's instructions, from each FROM to the next; what stands before the first comes first."""
    found = [[]]
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def copied():
    """Paths of the repository that the Dockerfile copies."""
    lines = [shlex.split(rest) for word, rest in instructions() if word == "COPY"]
    return {source for words in lines if not words[0].startswith("--from") for source in words[:-1]}


def test_dockerfile_copies_what_exists_and_the_context_holds():
    allowed = {x[1:] for x in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if x.startswith("!")}
    assert {"pyproject.toml", "constraints.txt", "mer_ray", "jobs", "configs"} <= copied()
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= copied()  # the package is not built without them
    assert copied() == allowed
    assert [s for s in copied() if not (ROOT / s).exists()] == []


def test_dockerfile_has_a_python_and_extras_that_the_package_takes():
    before, *built = stages()
    (base,) = [rest for word, rest in before if word == "ARG"]
    found = re.fullmatch(r"PYTHON=(\d+)\.(\d+)\.\d+-slim-[a-z]+", base)
    assert found, base
    assert [stage[0][1].split()[0] for stage in built] == ["python:${PYTHON}"] * 2
    needed = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert needed
    assert tuple(map(int, found.groups())) >= max((3, 11), tuple(map(int, needed.groups())))
    assert "cuda" in PROJECT["optional-dependencies"]
    assert ("ARG", "EXTRA=cluster,train,harvest,hub,youtube") in built[0]


@pytest.mark.parametrize("extra", ["", "cluster", "cluster,train,harvest,hub,youtube", "cluster,train,cuda"])
def test_dockerfile_installs_what_pyproject_names(extra, tmp_path):
    """The line that lists the packages, run as it stands."""
    (listing,) = [rest for word, rest in instructions() if word == "RUN" and "needed.txt" in rest]
    command = listing.split("> needed.txt")[0]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = Path(sys.executable).parent
    environment = {"EXTRA": extra, "PATH": f"{python}:/usr/bin:/bin"}
    done = run("sh", "-c", command, cwd=tmp_path, env=environment)
    wanted = [*PROJECT["dependencies"]]
    for name in filter(None, extra.split(",")):
        wanted += PROJECT["optional-dependencies"][name]
    assert done.stdout.splitlines() == list(dict.fromkeys(wanted)), done.stderr
    assert "--constraint constraints.txt --constraint constraints-cuda.txt" in listing


def test_cuda_constraints_pin_and_do_not_contradict_ours():
    lines = (CLUSTER / "constraints-cuda.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(x.split("==") for x in lines if x and not x.startswith("#"))
    assert {"jax-cuda12-plugin", "jax-cuda12-pjrt"} <= pins.keys()
    assert {pins["jax-cuda12-plugin"], pins["jax-cuda12-pjrt"]} == {pinned("jax")}
    assert [name for name in pins if re.search(rf"^{name.lower()}==", CONSTRAINTS, re.MULTILINE)] == []


def test_image_has_what_kuberay_and_the_launcher_call():
    last = stages()[-1]
    installed = next(rest for word, rest in last if word == "RUN" and "apt-get install" in rest)
    assert {"wget", "rsync", "openssh-client"} <= set(installed.split())
    environment = next(rest for word, rest in last if word == "ENV")
    assert {"HOME=/home/ray", "RAY_AUTH_MODE=token", "XLA_PYTHON_CLIENT_PREALLOCATE=false"} <= set(environment.split())
    assert ("USER", "ray") in last
    assert [word for word, _ in last[last.index(("USER", "ray")) :]] == ["USER", "CMD"]


def test_image_is_given_no_secret():
    for word, rest in instructions():
        if word in ("ARG", "ENV"):
            assert not re.search(r"(?i)(key|secret|token|password)\w*=(?!token\b)", rest), rest


def test_job_upload_has_what_a_job_runs_and_little_else():
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    rules = get_excludes_from_ignore_files(ROOT, include_gitignore=True)
    uploaded = {"jobs/run.py", "configs/cluster.yaml", "mer_ray/cli.py", "mer_ray/labels/data/demo_lexicon.txt"}
    left = {"tests/test_cluster_files.py", "benchmarks/x.py", "cluster/aws.yaml", ".env", "work/demo/tracks/x", "b.mp3"}
    assert [p for p in uploaded if any(rule(ROOT / p) for rule in rules)] == []
    assert [p for p in left if not any(rule(ROOT / p) for rule in rules)] == []


# What the README says to fill in

FILLED = {
    "IMAGE": "registry.example/mer-ray:1",
    "CLASS": "fast",
    "REGION": "eu-1",
    "ZONE": "eu-1-a",
    "AMI": "ami-1",
    "FILE_SYSTEM": "files.example:/share",
    "PROJECT": "project-1",
    "SOURCE_IMAGE": "projects/x/global/images/y",
}


@pytest.mark.parametrize(
    "name", ["aws", "gcp", *(f"kuberay-{n}" for n in ("shared", "rayjob", "raycluster", "cronjob"))]
)
def test_readme_fills_in_everything(name):
    (command,) = re.findall(rf"^ +(sed (?:[^\n]|\\\n)*? cluster/{name}\.yaml)(?= [|>])", README, re.MULTILINE)
    done = run("bash", "-c", command, cwd=ROOT, env=FILLED)
    assert done.returncode == 0, done.stderr
    filled, template = list(yaml.safe_load_all(done.stdout)), documents(f"{name}.yaml")
    assert filled != template
    unfilled = r"mer-ray:0\.1\.0|shared-files|\b(?:AMI|REGION|ZONE|FILE_SYSTEM|PROJECT|SOURCE_IMAGE)\b"
    assert re.findall(unfilled, json.dumps(filled)) == []


# Secrets


def test_no_file_holds_a_secret_or_a_package_index():
    files = [p for p in CLUSTER.iterdir() if p.is_file()] + [ROOT / ".dockerignore", ROOT / ".rayignore"]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\b[0-9a-fA-F]{32,}\b|\bAKIA[0-9A-Z]{16}\b|BEGIN [A-Z ]*PRIVATE KEY", text), file.name
        assert not re.search(r"(?i)index-url|pypi\.|/simple\b", text), file.name
        for key in KEYS | {"RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"}:
            for value in re.findall(rf"{key}=(\S*)", text):
                assert re.fullmatch(r"(\"?\$.*|…|\.\.\.)", value), f"{file.name}: {key}={value}"
