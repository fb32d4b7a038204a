"""A dataset by its hub name, loaded by ``datasets`` from a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from safetyvalve.data import load_preferences
from safetyvalve.data.sources.hub import HubName, hub_name
from safetyvalve.errors import DataError
from tests.data.files import PAIR
from tests.data.hub import COMMIT, local_hub

ROW = {"prompt": "日本の首都は？", "chosen": "東京です。", "rejected": "大阪です。"}

# Where the hub is, and whether it may be asked, is read once in a process, so each load of the test is in its own.
SCRIPT = """
import json, sys
from safetyvalve.data import load_preferences
from safetyvalve.errors import DataError
said = []
for name in sys.argv[1:]:
    try:
        loaded = load_preferences(name)
        said.append([loaded.report.source, [e.prompt[0].content for e in loaded.examples]])
    except DataError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def load_in_process(names: list[str], home: Path, endpoint: str, *, offline: bool = False) -> list[object]:
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/name", HubName("org/name", None, None, None)),
        ("org/name:test", HubName("org/name", None, None, "test")),
        ("org/name/ja:train_prefs", HubName("org/name", None, "ja", "train_prefs")),
        ("org/na.me@v1.0/ja", HubName("org/na.me", "v1.0", "ja", None)),
        ("data/train.jsonl", None),
        ("data/train.JSONL.gz", None),
        ("name", None),
        ("/org/name", None),
        ("../org/name", None),
        ("a/b/c/d", None),
        ("データ/組", None),
    ],
)
def test_names(text: str, parts: HubName | None) -> None:
    assert hub_name(text) == parts


def test_load(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "repository"
    for split, row in (("train", ROW), ("test", PAIR)):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list([row]).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    home = tmp_path / "home"
    with local_hub("org/name", folder) as endpoint:
        names = ["org/name", f"org/name@{COMMIT}/default:test", "org/name:dev", "org/name/ja", "org/other"]
        newest, test, no_split, no_config, no_dataset = load_in_process(names, home, endpoint)
    said = "hub dataset org/name (config default, split {}, commit 0123456789ab)"
    assert newest == [said.format("train"), [ROW["prompt"]]]
    assert test == [said.format("test"), [PAIR["prompt"]]]
    assert no_split == "org/name:dev: has no split 'dev'; accepted: train, test."
    assert no_config == "org/name/ja: has no config 'ja'; accepted: default. Name one: org/name/default."
    assert "org/other: is no file or folder here, and could not be loaded" in str(no_dataset)

    # Without the hub the cache serves, but not as another commit than it holds.
    names = ["org/name", f"org/name@{'f' * 40}", "org/absent"]
    for offline in (True, False):  # switched off, or not there any more
        cached, other, absent = load_in_process(names, home, endpoint, offline=offline)
        assert cached == newest
        assert f"is cached at commit {COMMIT} only" in str(other)
        assert "org/absent: is no file or folder here" in str(absent)
        assert offline or f"({endpoint} cannot be reached" in str(absent)


def test_unreachable() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(
        DataError, match=r"org/absent: is no file or folder here, and could not be loaded .* network"
    ) as e:
        load_preferences("org/absent")
    assert "\n" not in str(e.value)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"org/name: needs the package datasets .*pip install 'safetyvalve\[datasets\]'"
    ):
        load_preferences("org/name")


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="is a folder that holds neither"):
        load_preferences("org/name")
    with pytest.raises(DataError, match="does not exist"):
        load_preferences("org/name/ja")
