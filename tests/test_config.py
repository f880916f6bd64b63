"""Settings: the defaults are the demo, the promised names are there, and every slip is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from mer_ray import config, config_checks
from mer_ray.config import Config
from mer_ray.errors import ConfigError
from mer_ray.io.schemas import SCHEMAS, catalog_scores_schema, labels_schema

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
PROMISED = {
    "collect": ["source", "manifest", "folder", "tag", "limit", "api_url"],
    "label": ["lexicon", "recipe"],
    "extract": ["features"],
    "train": ["networks", "folds", "seed"],
}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.name)
def test_every_shipped_config_loads_and_says_its_command(file):
    assert config.load(file).workspace
    head = file.read_text(encoding="utf-8")
    assert f"configs/{file.name}" in head.split("workspace:")[0]


def test_the_design_s_configs_are_there():
    assert {"demo.yaml", "laptop.yaml", "lastfm-soundtracks.yaml", "cluster.yaml"} <= {f.name for f in CONFIGS}


def test_the_demo_config_says_what_the_defaults_do():
    demo = config.load(next(f for f in CONFIGS if f.name == "demo.yaml"))
    assert demo.label.lexicon == "demo"  # what the default, None, means for the demo catalog
    assert demo.model_copy(update={"label": demo.label.model_copy(update={"lexicon": None})}) == Config()
    assert Config().is_demo


def test_the_original_recipe_is_9000_soundtracks():
    recipe = config.load(next(f for f in CONFIGS if f.name == "lastfm-soundtracks.yaml"))
    assert (recipe.collect.source, recipe.collect.tag, recipe.collect.limit) == ("lastfm", "soundtrack", 9_000)
    assert recipe.extract.features == ["mfcc", "vggish"]
    assert recipe.train.networks == ["cnn", "lstm", "kernel"]
    assert not recipe.is_demo


@pytest.mark.parametrize("key", [f"{section}.{name}" for section, names in PROMISED.items() for name in names])
def test_the_promised_names_are_settings(key):
    section, name = key.split(".")
    assert name in type(getattr(Config(), section)).model_fields


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("colect.tag=x", "unknown key colect: did you mean collect?"),
        ("train.fold=3", "unknown key train.fold: did you mean folds?"),
        ("collect.demo.cue=3", "unknown key collect.demo.cue: did you mean cues?"),
        ("extract.mfcc.n_mfc=3", "unknown key extract.mfcc.n_mfc: did you mean n_mfcc?"),
        ("extract.brought.mine.key=path", "unknown key extract.brought.mine.key: known here: path, hop_s"),
        ("train.zzzzzz=3", "unknown key train.zzzzzz: known here: networks, inputs, "),
        ("lastfm_api_key=secret", "unknown key lastfm_api_key"),
    ],
)
def test_an_unknown_key_is_named_with_its_likely_meaning(assignment, message):
    with pytest.raises(ConfigError) as caught:
        config.load(None, [assignment])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "names"),
    [
        ("train.folds=1", ["train.folds", "got 1"]),
        ("train.folds=five", ["train.folds", "five"]),
        ("train.folds=", ["train.folds", "None"]),
        ("train.folds=2.5", ["train.folds", "2.5"]),
        ("train.seed=-1", ["train.seed", "-1"]),
        ("train.seed=99999999999999999999", ["train.seed"]),
        ("train.window_s=.inf", ["train.window_s", "finite"]),
        ("train.learning_rate=.nan", ["train.learning_rate"]),
        ("train=5", ["train", "5"]),
        ("train.networks=cnn,gru", ["train", "unknown network 'gru'", "known: cnn, lstm, kernel"]),
        ("train.networks=cnn,cnn", ["train", "named twice"]),
        ("train.networks=[]", ["train", "at least one network"]),
        ("extract.features=tempo", ["extract", "unknown feature 'tempo'", "mfcc, logmel"]),
        ("acquire.providers=torrent", ["acquire", "unknown provider 'torrent'", "savify"]),
        ("acquire.providers=[]", ["acquire", "at least one provider"]),
        ("collect.source=spotify", ["collect.source", "spotify", "lastfm"]),
        ("collect.scale=[9, 1]", ["collect", "[lowest, highest]"]),
        ("collect.limit=0", ["collect.limit", "got 0"]),
        ("collect.scale=5", ["collect.scale", "[lowest, highest] is wanted", "got 5"]),
        ("collect={manifest: [a.csv, b.csv], scale: {a: [0, 1]}}", ["no entry for the manifest b.csv"]),
        ("collect={manifest: a.csv, scale: {a: [0, 1], c: [0, 1]}}", ["scale names c", "a.csv"]),
        ("collect={manifest: a.csv, scale: {a: [1, 0]}}", ["[lowest, highest]"]),
        ("collect={manifest: [x/a.csv, y/a.csv], scale: {a: [0, 1]}}", ["two of them have the same"]),
        ("collect={manifest: 'a.csv,a.csv'}", ["named twice"]),
        ("collect={manifest: 'a.csv,./b/../a.csv'}", ["named twice"]),
        ("collect={manifest: a.csv, scale: {a: [0, 1]}, curves: c.csv}", ["curve_scale must be set"]),
        ("collect={folder: m, curves: c.csv}", ["set manifest as well"]),
        ("collect.manifest=s3://bucket/m.csv,b.csv", ["paths of this machine", "s3://bucket"]),
        *(
            (f"collect.dimensions={name}", ["collect.dimensions", f"'{name}' cannot be the name of a column"])
            for name in ("title", "Tension", "lower_tension", "x-y", "tension_percentile", "mood", "fold", "1st")
        ),
        ("collect.dimensions=[]", ["collect.dimensions", "at least one"]),
        ("collect.dimensions=[tension, tension]", ["collect.dimensions", "each once"]),
        ("label.recipe=new", ["label.recipe", "'original'"]),
    ],
)
def test_a_bad_value_is_named_with_its_key(assignment, names):
    with pytest.raises(ConfigError) as caught:
        config.load(None, [assignment])
    for name in names:
        assert name in str(caught.value)


def test_no_dimension_is_called_like_a_column():
    columns = [*SCHEMAS["tracks"].names, *labels_schema(()).names, *catalog_scores_schema(("tension",)).names]
    assert [name for name in columns if config_checks.is_dimension(name)] == ["tension"]


@pytest.mark.parametrize(
    "assignment", ["train.folds", "=3", "", "train..folds=3", ".=1", "train.networks=[cnn", "workspace.x=1"]
)
def test_an_assignment_of_another_form_is_shown(assignment):
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["workspace=w", assignment])
    assert f"--set {assignment!r}" in str(caught.value)


@pytest.mark.parametrize("text", ["cnn,lstm", "[cnn, lstm]", "cnn, lstm ,", '["cnn","lstm"]'])
def test_lists_are_typed_as_people_type_them(text):
    assert config.load(None, [f"train.networks={text}"]).train.networks == ["cnn", "lstm"]


def test_one_name_is_a_list_too(tmp_path):
    assert config.load(None, ["extract.features=mfcc"]).extract.features == ["mfcc"]
    (tmp_path / "c.yaml").write_text("extract: {features: mfcc}\nacquire: {providers: savify}\n")
    loaded = config.load(tmp_path / "c.yaml")
    assert (loaded.extract.features, loaded.acquire.providers) == (["mfcc"], ["savify"])


def test_assignments_come_after_the_file_and_in_their_order(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("train: {folds: 3, seed: 4}\ncollect: {scale: [1, 9]}\n")
    loaded = config.load(file, ["train.folds=4", "train.folds=6", "collect.demo.cues=5", "collect.tag=a=b"])
    assert (loaded.train.folds, loaded.train.seed, loaded.collect.demo.cues) == (6, 4, 5)
    assert loaded.collect.scale == (1.0, 9.0)
    assert loaded.collect.tag == "a=b"


def test_several_manifests_and_their_curves_start_at_the_file_s_folder(tmp_path):
    text = "collect: {manifest: 'a.csv, /data/b.csv', curves: [c.csv, ~/d.csv], scale: {a: [1, 9], b.csv: [-1, 1]}, "
    (tmp_path / "c.yaml").write_text(text + "curve_scale: [0, 1], dimensions: 'valence,tension'}\n")
    own = config.load(tmp_path / "c.yaml").collect
    assert own.manifests == [f"{tmp_path}/a.csv", "/data/b.csv"]
    assert own.curves == [f"{tmp_path}/c.csv", "~/d.csv"]
    assert [own.scale_of(m) for m in own.manifests] == [(1, 9), (-1, 1)]
    assert [own.dataset_of(m) for m in own.manifests] == ["a", "b"]
    assert (own.source, own.dimensions) == ("manifest", ["valence", "tension"])
    (tmp_path / "a,b.csv").write_text("path\n")
    (tmp_path / "d.yaml").write_text("collect: {manifest: 'a,b.csv'}\n")
    assert config.load(tmp_path / "d.yaml").collect.manifests == [f"{tmp_path}/a,b.csv"]
    same = config.load(None, ["collect.manifest=x/m.csv,y/m.csv"]).collect
    assert [same.dataset_of(m) for m in same.manifests] == ["x/m", "y/m"]
    names = ["/x/1/m.csv", "/y/1/m.csv", "/y/1/m.json", "/z/n.csv"]
    alike = config.load(None, [f"collect.manifest={','.join(names)}"]).collect
    assert [alike.dataset_of(m) for m in names] == ["/x/1/m.csv", "/y/1/m.csv", "1/m.json", "n"]
    assert Config().train.folds == 5  # the defaults are not shared


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_the_defaults(tmp_path, content):
    (tmp_path / "c.yaml").write_text(content)
    assert config.load(tmp_path / "c.yaml") == Config()


@pytest.mark.parametrize(
    "content", [b"- a\n- b\n", b"3\n", b"just text\n", b"a: [1\n", b"\xff\xfe\x00", b"{1: 2}\n", b"train:\n"]
)
def test_a_file_that_is_no_settings_is_named(tmp_path, content):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(ConfigError, match="config file"):
        config.load(tmp_path / name)


IN_A_FILE = """
workspace: work/mine
collect: {source: manifest, manifest: tracks.csv, cache: answers}
label: {lexicon: words/l.txt, exclude: "@names.txt, live", keep: ["@moods.txt", calm]}
acquire: {folder: music}
extract:
  features: [mfcc]
  vggish: {weights: vggish}
  hub: {yamnet: {handle: yamnet}, far: {handle: "https://tfhub.dev/google/yamnet/1"}}
  brought: {mine: {path: mine.parquet}, there: {path: "s3://bucket/there.parquet"}}
train: {mlflow: runs}
score: {model: /models/mine}
"""


def test_relative_paths_of_inputs_start_at_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text(IN_A_FILE)
    monkeypatch.chdir("/")
    loaded = config.load(tmp_path / "c.yaml")
    here = str(tmp_path)
    assert loaded.collect.manifest == f"{here}/tracks.csv"
    assert loaded.label.lexicon == f"{here}/words/l.txt"
    assert loaded.label.exclude == [f"@{here}/names.txt", "live"]
    assert loaded.label.keep == [f"@{here}/moods.txt", "calm"]
    assert (loaded.acquire.folder, loaded.score.model) == (f"{here}/music", "/models/mine")
    assert loaded.extract.vggish.weights == f"{here}/vggish"
    assert loaded.extract.hub["yamnet"].handle == f"{here}/yamnet"
    assert loaded.extract.hub["far"].handle.startswith("https://")
    assert loaded.extract.precomputed["mine"].path == f"{here}/mine.parquet"
    assert loaded.extract.precomputed["there"].path == "s3://bucket/there.parquet"
    assert (loaded.workspace, loaded.collect.cache, loaded.train.mlflow) == ("work/mine", "answers", "runs")
    (tmp_path / "d.yaml").write_text("collect: {source: folder, folder: ../music}\n")
    assert config.load(tmp_path / "d.yaml").collect.folder == f"{here}/../music"


def test_what_is_assigned_starts_at_the_current_folder_and_words_are_no_paths(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "label: {lexicon: demo}\nextract: {vggish: {weights: auto}}\nacquire: {folder: ~/x}\nscore: {model: light}\n"
    )
    loaded = config.load(tmp_path / "c.yaml", ["collect.manifest=tracks.csv", "label.keep=@a.txt"])
    assert (loaded.collect.manifest, loaded.label.keep) == ("tracks.csv", ["@a.txt"])
    assert (loaded.label.lexicon, loaded.extract.vggish.weights, loaded.acquire.folder) == ("demo", "auto", "~/x")
    assert loaded.score.model == "light"
    assert config.load(tmp_path / "c.yaml", ["label.lexicon=l.txt"]).label.lexicon == "l.txt"


def test_a_later_file_changes_what_an_earlier_one_says(tmp_path):
    first, second = tmp_path / "one" / "a.yaml", tmp_path / "two" / "b.yaml"
    for file in first, second:
        file.parent.mkdir()
    first.write_text("collect: {manifest: m.csv, scale: [1, 9]}\ntrain: {folds: 3, seed: 4}\nworkspace: a\n")
    second.write_text("train: {folds: 7, networks: [kernel]}\nlabel: {lexicon: words.txt}\n")
    both = config.load(os.pathsep.join([str(first), str(second)]), ["train.seed=5"])
    assert (both.train.folds, both.train.seed, both.train.networks) == (7, 5, ["kernel"])
    assert both.collect.manifest == str(tmp_path / "one" / "m.csv")
    assert both.label.lexicon == str(tmp_path / "two" / "words.txt")
    assert (both.collect.scale, both.workspace) == ((1, 9), "a")
    with pytest.raises(ConfigError, match=r"c\.yaml does not exist"):
        config.load(os.pathsep.join([str(first), str(tmp_path / "c.yaml")]))


def test_a_file_may_have_the_separator_in_its_name(tmp_path):
    file = tmp_path / f"a{os.pathsep}b.yaml"
    file.write_text("workspace: odd\n")
    assert config.load(file).workspace == config.load(str(file)).workspace == "odd"


def test_a_file_runs_no_code(tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text(f"workspace: !!python/object/apply:os.system ['touch {tmp_path}/owned']\n")
    with pytest.raises(ConfigError):
        config.load(file)
    assert not (tmp_path / "owned").exists()


def test_settings_survive_a_round_trip():
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(Config().model_dump(mode="json")))) == Config()


def test_the_name_of_a_list_may_stand_bare() -> None:
    assert config.load(None, ["label.exclude=@names.txt"]).label.exclude == ["@names.txt"]
    assert config.load(None, ["label.keep=@a.txt,calm"]).label.keep == ["@a.txt", "calm"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["train.gpus_per_trial=2"], "one process trains on one GPU at most; set it to 1, and"),
        (["train.gpus_per_trial=0.5", "train.workers=2"], "it is 0 or whole"),
    ],
)
def test_gpus_that_no_training_would_use_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        config.load(None, settings)
    assert config.load(None, ["train.gpus_per_trial=2", "train.workers=2"]).train.gpus_per_trial == 2
