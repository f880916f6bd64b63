"""The files of cluster/: they parse, agree with each other and with the repository, and hold no secret.

Nothing here starts Ray, a container or a cluster.
"""

import json
import re
import shlex
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from mer_ray.config import load

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
KEYS = {"LASTFM_API_KEY", "SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET"}
POOLS = ("extract.workers", "score.workers")


def documents(name):
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def job():
    (document,) = documents("kuberay-rayjob.yaml")
    return document


@pytest.fixture(scope="module")
def groups(job):
    spec = job["spec"]["rayClusterSpec"]
    return {"head": spec["headGroupSpec"], **{g["groupName"]: g for g in spec["workerGroupSpecs"]}}


@pytest.fixture(scope="module")
def launcher():
    (document,) = documents("aws.yaml")
    return document


def container(group):
    (only,) = group["template"]["spec"]["containers"]
    return only


def pinned(package):
    """The version in constraints.txt, or the installed one where that file does not pin it."""
    constraints = ROOT / "constraints.txt"
    lines = constraints.read_text(encoding="utf-8").splitlines() if constraints.is_file() else []
    for line in lines:
        if found := re.match(rf"{package}(?:\[.*\])?==([^\s;]+)", line.strip(), re.IGNORECASE):
            return found[1]
    return version(package)


def instructions():
    """The Dockerfile's, as (word, rest), continued lines joined."""
    text = re.sub(r"\\\n", " ", (CLUSTER / "Dockerfile").read_text(encoding="utf-8"))
    return [tuple(x.split(None, 1)) for x in text.splitlines() if x.strip() and not x.startswith("#")]


def test_every_yaml_file_parses():
    files = sorted(CLUSTER.glob("*.yaml"))
    assert len(files) >= 3
    for file in files:
        assert all(isinstance(d, dict) for d in documents(file.name)), file.name


# The job on Kubernetes


def test_rayjob_has_the_required_fields(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    assert {"entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes"} <= job["spec"].keys()
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True


def test_rayjob_has_no_unknown_fields(job, groups):
    known_job = {"entrypoint", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"}
    known_cluster = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec"}
    known_group = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert job["spec"].keys() <= known_job | {"rayClusterSpec"}
    assert job["spec"]["rayClusterSpec"].keys() <= known_cluster | {"workerGroupSpecs"}
    for name, group in groups.items():
        known = {"serviceType", "enableIngress", "rayStartParams", "template"} if name == "head" else known_group
        assert group.keys() <= known, name


def test_rayjob_runs_the_ray_that_is_pinned(job):
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")


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
    most = groups["cpu"]["maxReplicas"] * int(container(groups["cpu"])["resources"]["requests"]["cpu"])
    assert {f"{pool}={most}" for pool in POOLS} <= set(shlex.split(job["spec"]["entrypoint"]))


def test_every_group_has_one_image_resources_and_the_shared_folder(groups):
    assert set(groups) == {"head", "cpu", "gpu"}
    for name, group in groups.items():
        pod, only = group["template"]["spec"], container(group)
        assert only["image"] == container(groups["head"])["image"], name
        assert {"cpu", "memory"} <= only["resources"]["requests"].keys() & only["resources"]["limits"].keys(), name
        assert "rayStartParams" in group, name
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]}
        assert {m["mountPath"]: claims[m["name"]] for m in only["volumeMounts"]} == {"/shared": "mer-ray-shared"}, name


def test_worker_groups_scale_within_their_bounds(groups):
    for name in ("cpu", "gpu"):
        group = groups[name]
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["maxReplicas"] > 0
    assert groups["gpu"]["minReplicas"] == groups["gpu"]["replicas"] == 0
    assert container(groups["gpu"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert groups["cpu"]["minReplicas"] >= 1  # a stage without a size of its own takes the CPUs that it finds
    assert groups["head"]["rayStartParams"]["num-cpus"] == "0"


def test_gpu_pods_have_room_for_the_trials_that_share_one(groups):
    train = load(CLUSTER.parent / "configs" / "cluster.yaml").train
    trials = 1 / train.gpus_per_trial
    assert int(container(groups["gpu"])["resources"]["requests"]["cpu"]) >= trials * train.cpus_per_trial


def test_dashboard_is_not_exposed_and_asks_for_a_token(job, groups):
    assert groups["head"]["serviceType"] == "ClusterIP"
    assert groups["head"]["enableIngress"] is False
    assert job["spec"]["rayClusterSpec"]["authOptions"]["mode"] == "token"


def test_keys_come_from_one_secret_in_every_pod(groups):
    for name, group in groups.items():
        entries = {e["name"]: e for e in container(group)["env"]}
        assert entries.keys() >= KEYS, name
        for key in KEYS:
            assert "value" not in entries[key], (name, key)
            reference = entries[key]["valueFrom"]["secretKeyRef"]
            assert (reference["name"], reference["key"]) == ("mer-ray-keys", key), name


def test_shared_folder_can_be_written_by_every_node_and_looked_into(groups):
    claim, pod = documents("kuberay-shared.yaml")
    assert (claim["kind"], pod["kind"]) == ("PersistentVolumeClaim", "Pod")
    assert claim["metadata"]["name"] == "mer-ray-shared"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (only,) = pod["spec"]["containers"]
    assert only["image"] == container(groups["head"])["image"]
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


# The cluster launcher


def test_launcher_file_fits_rays_schema(launcher):
    from ray.autoscaler._private import util

    prepared = util.prepare_config(launcher)
    util.validate_config(prepared)
    assert prepared["provider"]["type"] == "aws"
    assert "3.0.0.dev" not in json.dumps(prepared)  # Ray's defaults would install another Ray


def test_launcher_types_scale_and_share_one_image(launcher, groups):
    types = launcher["available_node_types"]
    assert launcher["head_node_type"] in types
    assert launcher["docker"]["image"] == container(groups["head"])["image"]
    assert types["gpu"]["min_workers"] == 0
    assert launcher["max_workers"] == sum(t["max_workers"] for t in types.values())
    assert any("/shared:/shared" in option for option in launcher["docker"]["run_options"])


def test_launcher_keeps_the_dashboard_on_the_node_and_reads_the_token(launcher):
    starts = [
        c for c in launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"] if "ray start" in c
    ]
    assert len(starts) == 2
    assert all(c.startswith(". ~/.mer-ray/env && ") for c in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.mer-ray" in launcher["file_mounts"]


# The image, and what is uploaded


def test_dockerfile_copies_what_exists_and_the_context_holds():
    allowed = [x[1:] for x in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if x.startswith("!")]
    sources = [s for word, rest in instructions() if word == "COPY" for s in shlex.split(rest)[:-1]]
    assert {"pyproject.toml", "constraints.txt", "mer_ray", "jobs", "configs"} <= set(sources)
    assert sorted(sources) == sorted(allowed)
    assert [s for s in sources if not (ROOT / s).exists()] == []


def test_dockerfile_has_a_python_and_extras_that_the_package_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (base,) = [rest for word, rest in instructions() if word == "FROM"]
    found = re.fullmatch(r"python:(\d+)\.(\d+)-slim", base.strip())
    assert found, base
    needed = re.fullmatch(r">=(\d+)\.(\d+)", project["requires-python"])
    assert needed
    assert tuple(map(int, found.groups())) >= max((3, 11), tuple(map(int, needed.groups())))
    assert "cuda" in project["optional-dependencies"]
    assert ("ARG", 'EXTRA=""') in [(w, r.strip()) for w, r in instructions()]


def test_image_has_what_kuberay_and_the_launcher_call():
    installed = next(rest for word, rest in instructions() if word == "RUN" and "apt-get install" in rest)
    assert {"wget", "rsync", "openssh-client"} <= set(installed.split())
    environment = next(rest for word, rest in instructions() if word == "ENV")
    assert {"HOME=/home/ray", "XLA_PYTHON_CLIENT_PREALLOCATE=false"} <= set(environment.split())
    assert ("USER", "ray") in [(w, r.strip()) for w, r in instructions()]


def test_job_upload_has_what_a_job_runs_and_little_else():
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    rules = get_excludes_from_ignore_files(ROOT, include_gitignore=True)
    kept = {"jobs/run.py", "configs/cluster.yaml", "mer_ray/cli.py", "mer_ray/labels/data/demo_lexicon.txt"}
    left = {
        "tests/test_cluster_files.py",
        "benchmarks/x.py",
        "cluster/aws.yaml",
        ".env",
        "work/demo/tracks/x",
        "a/b.mp3",
    }
    assert [p for p in kept if any(rule(ROOT / p) for rule in rules)] == []
    assert [p for p in left if not any(rule(ROOT / p) for rule in rules)] == []


# Secrets


def test_no_file_holds_a_secret_or_a_package_index():
    files = [p for p in CLUSTER.iterdir() if p.is_file()] + [ROOT / ".dockerignore", ROOT / ".rayignore"]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\b[0-9a-fA-F]{32,}\b|\bAKIA[0-9A-Z]{16}\b|BEGIN [A-Z ]*PRIVATE KEY", text), file.name
        assert not re.search(r"(?i)index-url|pypi\.|/simple\b", text), file.name
        for key in KEYS | {"RAY_AUTH_TOKEN"}:
            for value in re.findall(rf"{key}=(\S*)", text):
                assert re.fullmatch(r"(\"?\$.*|…|\.\.\.)", value), f"{file.name}: {key}={value}"
