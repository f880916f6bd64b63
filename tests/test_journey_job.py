"""The whole pipeline by ``ray job submit``, on a Ray head of its own with token authentication.

Its log, what is counted of it, who may do what there, and that no secret of the environment is written anywhere.
"""

from __future__ import annotations

import csv
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from clusters import Cluster
from conftest import write_tunes
from parts import sets
from test_metrics import drawn

from mer_ray.io.tables import Workspace

SECRETS = (
    *("LASTFM_API_KEY", "SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
    "RAY_AUTH_TOKEN",
)
OPEN_TO_ALL = {"/", "/favicon.ico", "/api/authentication_mode", "/api/gcs_healthz"}
"""What Ray 2.60 serves without a token: the empty page, and that it is there."""


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A Ray head with the shipped settings, and in its environment a secret under each of the names."""
    with Cluster(0, head_cpus=2, secrets={name: secrets.token_hex(32) for name in SECRETS}) as made:
        yield made


def run(head: Cluster, state: str, *entrypoint: object) -> str:
    """Submit a job, wait until it ends in this state; its log."""
    job = head.submit("python", *entrypoint)
    assert job.wait(500) == state, job.log()
    return job.log()


def metrics(head: Cluster) -> str:
    """What Prometheus would get from this node."""
    return httpx.get(f"{head.metrics_url}/metrics", timeout=240).text


def counters(head: Cluster) -> dict[tuple[str, ...], float]:
    """Our counters as Prometheus would read them: (name, stage, reason or "") → sum over the processes."""
    found: Counter[tuple[str, ...]] = Counter()
    for name, labels, value in re.findall(r"^ray_(mer_ray_\w+)_total\{(.*)\} (\S+)$", metrics(head), re.MULTILINE):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[name, tags["stage"], tags.get("reason", "")] += float(value)
    return dict(found)


def manifest_of(folder: Path) -> Path:
    """A labelled catalog: 16 tunes by four artists, one of them twice, and three that fail on the way."""
    paths = write_tunes(folder, 16, seconds=3)
    damaged, silent = folder / "damaged.flac", folder / "silent.flac"
    damaged.write_bytes(b"fLaC" + bytes(1_000))
    soundfile.write(silent, np.zeros(50_000), 22_050)
    rng = np.random.default_rng(1)
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "artist", "title", "valence", "arousal", "dominance"])
        for i, path in enumerate([*paths, paths[0], damaged, silent, folder / "gone.flac"]):
            rows.writerow([path, f"Þórr {i % 4}", f"Dvořák · {path.stem}", *rng.random(3).round(3)])
    return manifest


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Of a small run: everything that the pipeline does, in a workspace of its own."""
    folder = tmp_path_factory.mktemp("job")
    settings = sets(
        *("collect.source=manifest", f"collect.manifest={manifest_of(folder / 'music')}", "extract.features=mfcc"),
        *("train.networks=lstm", "train.folds=2", "train.epochs=2", "train.members=1", "train.batch_size=8"),
    )
    return ["--workspace", folder / "w", *settings]


@pytest.fixture(scope="module")
def first(head: Cluster, options: list[object]) -> str:
    """The log of the first run, which does everything."""
    return run(head, "SUCCEEDED", "jobs/run.py", *options)


@pytest.mark.timeout(900)
def test_the_pipeline_as_a_submitted_job(first, options):
    assert "all done" in first
    workspace = Workspace(options[1])
    assert workspace.read_bytes("report", "metrics.csv").count(b"\n") == 1 + 3 * (2 + 2 + 1)
    assert len(workspace.read("scores")) == 16


def test_its_log_is_fit_for_a_log(first):
    ours = [line for line in first.splitlines() if " cli.py:" not in line]  # Ray's own lines about the job are bold
    assert not [line for line in ours if "\x1b" in line or "\r" in line]
    assert re.search(r"^extract +16 feature rows · ", first, re.MULTILINE)
    assert re.search(r"^train: \d of 3, .*so far", first, re.MULTILINE)


def test_what_is_counted_is_what_the_tables_have(head, first, options):
    workspace = Workspace(options[1])
    tables = {"collect": "tracks", "label": "labels", "acquire": "audio", "extract": "features/mfcc", "score": "scores"}
    expected = {("mer_ray_tracks", stage, ""): len(workspace.read(table)) for stage, table in tables.items()}
    failures = Counter((f["stage"].partition(":")[0], f["reason"]) for f in workspace.read("failures").to_pylist())
    assert sum(failures.values()) == 4
    expected |= {("mer_ray_failures", *which): n for which, n in failures.items()}
    expected["mer_ray_models", "train", ""] = 1
    deadline = time.monotonic() + 150  # Ray's processes report every ten seconds
    while True:
        counted = counters(head)
        names = {n for n, *_ in expected}
        if {k: v for k, v in counted.items() if k[0] in names} == expected:
            break
        assert time.monotonic() < deadline, f"{counted} is not {expected}"
        time.sleep(0.5)
    audio = {row["track_id"]: row["duration_s"] for row in workspace.read("audio").to_pylist()}
    assert counted["mer_ray_audio_seconds", "acquire", ""] == pytest.approx(sum(audio.values()))
    extracted = sum(audio[i] for i in workspace.read("features/mfcc")["track_id"].to_pylist())
    assert counted["mer_ray_audio_seconds", "extract", ""] == pytest.approx(extracted, rel=0.01)


def test_the_board_draws_what_ray_exports(head, first):
    missing, deadline = drawn(), time.monotonic() + 150
    while missing:
        missing -= set(re.findall(r"^(\w+)\{", metrics(head), re.MULTILINE))
        assert time.monotonic() < deadline, f"Ray exports no {missing}"


def test_submitted_again_it_finds_everything_done(head, first, options):
    assert "everything was done already" in run(head, "SUCCEEDED", "jobs/run.py", *options)


def test_a_job_of_one_stage_works_and_one_that_cannot_fails(head, first, options, tmp_path):
    with ThreadPoolExecutor() as threads:  # side by side, to save time
        submitted = threads.submit(run, head, "SUCCEEDED", "jobs/status.py", *options[:2])
        failed = run(head, "FAILED", "jobs/label.py", "--workspace", tmp_path / "empty")
    assert "features/mfcc" in submitted.result()
    assert "mer-ray: error: workspace" in failed
    codes = {job["entrypoint"].split()[1]: job["driver_exit_code"] for job in head.get("/api/jobs/")}
    assert (codes["jobs/label.py"], codes["jobs/status.py"]) == (2, 0)


# security ------------------------------------------------------------------------------------------------------------


def routes() -> set[tuple[str, str]]:
    """(method, path) of all that the installed Ray's dashboard and agents serve, but what waits or profiles."""
    import ray.dashboard

    folder = Path(ray.dashboard.__file__).parent
    pattern = re.compile(r'routes\.(get|post|put|delete|patch)\(\s*"([^"]+)"')
    found = {r for file in folder.rglob("*.py") for r in pattern.findall(file.read_text(encoding="utf-8"))}
    assert {("post", "/api/jobs/"), ("get", "/api/v0/actors"), ("get", "/nodes")} <= found
    return {r for r in found if not re.search("delay|profile|traceback", r[1])}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer " + "0" * 64}], ids=["no token", "a wrong token"])
def test_nobody_does_or_reads_anything_without_the_token(head, header):
    order = {"entrypoint": "touch /tmp/mer-ray-was-here", "runtime_env": {}}
    with httpx.Client(headers=header, timeout=240) as client:
        refused = client.post(f"{head.url}/api/jobs/", json=order)
        assert refused.status_code == (403 if header else 401)
        for method, path in sorted(routes()):
            for url in (head.url, head.agent_url):
                response = client.request(method, url + re.sub(r"\{.*?\}", "x", path))
                if url == head.url and path in OPEN_TO_ALL:
                    assert not [s for s in SECRETS if head.environment[s] in response.text]
                elif not path.endswith("healthz"):
                    assert response.status_code in (401, 403), f"{method} {url}{path} gives {response.status_code}"
    assert not [job for job in head.get("/api/jobs/") if job["entrypoint"] == order["entrypoint"]]


def test_no_secret_of_the_environment_is_written_or_shown(head, first, options):
    """Every file of Ray and of the workspace, and every response of the dashboard and of the metrics' port."""
    wanted = {name: head.environment[name].encode() for name in SECRETS}
    seen = {"the job's log": first.encode()}
    with httpx.Client(base_url=head.url, headers=head.bearer, timeout=240) as client:
        job = next(job for job in client.get("/api/jobs/").json() if "jobs/run.py" in job["entrypoint"])
        listed = {
            kind: client.get(f"/api/v0/{kind}").json()["data"]["result"]["result"] for kind in ("nodes", "actors")
        }
        node, actor = listed["nodes"][0]["node_id"], listed["actors"][0]["actor_id"]
        known = {"job_or_submission_id": job["submission_id"], "job_id": job["job_id"], "node_id": node}
        known |= {"actor_id": actor, "media_type": "file"}
        for method, path in sorted(routes()):
            # A tail is a websocket; Ray keeps the headers of one that it cannot open, token included, in dashboard.log.
            if method == "get" and not path.endswith("/tail") and not re.search(r"\{(?!" + "|".join(known) + ")", path):
                query = f"?node_id={node}&detail=1&filename=runtime_env_agent.log&view=details"
                address = re.sub(r"\{(\w+)\}", lambda m: known[m[1]], path) + query
                seen[address] = client.get(address).content
    seen["metrics"] = metrics(head).encode()
    for folder in (head.folder, Path(options[1])):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                seen[str(file)] = file.read_bytes()
    assert len(seen) > 150
    assert any(b"Successfully created runtime env" in content for content in seen.values())  # the logs were searched
    shown = {source: [n for n, s in wanted.items() if s in content] for source, content in seen.items()}
    assert {source: names for source, names in shown.items() if names} == {}
