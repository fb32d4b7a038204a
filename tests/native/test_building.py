"""The kernels are compiled once for a processor; where that cannot be there is a reason, and torch computes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from safetyvalve.native import Kernels, building
from safetyvalve.processor import Processor, this_processor

CODE = """
import torch
from safetyvalve.native import kernels
from safetyvalve.trees import response_logps
from tests.tiny import random_tree, tiny_model
with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
    tokens = response_logps(tiny_model(), [random_tree(5, 3, 1)]).tokens
print(kernels().library, bool((tokens < 0).all()), len(tokens))
"""

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def anew() -> Kernels:
    """Past the process's cache, which stays."""
    return building.kernels.__wrapped__()


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no switch from outside."""
    monkeypatch.setenv("SAFETYVALVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(building.SWITCH, raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(building, "this_processor", lambda: this_processor()._replace(maker="nobody"))
    return tmp_path / "cache" / "native"


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that notes each build, a line of arguments, and makes a library of two functions: faster than ours."""
    source = tmp_path / "two.c"
    source.write_text("long sv_gemm_ready(void) { return 0; }\nlong sv_product_ready(void) { return 1; }\n")
    notes = tmp_path / "builds"
    notes.touch()
    name = script(
        tmp_path / "noting",
        f'[ "$1" = --version ] && exec echo "noting 1"\necho "$@" >> {notes}\n'
        f'for last; do :; done\nexec cc -shared -fPIC {source} -o "$last"',
    )
    monkeypatch.setenv("CC", str(name))
    return notes


class TestReasons:
    """Nothing to call, and why not."""

    def refused(self) -> str:
        found = anew()
        assert found.library is None
        assert (found.tiles, found.vectors, found.version) == (False, False, "torch")
        return found.reason

    def test_switched_off(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        monkeypatch.setenv("SAFETYVALVE_NATIVE", "off")
        assert self.refused() == "switched off by SAFETYVALVE_NATIVE"
        assert not cache.exists()

    def test_another_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert self.refused() == "compiled on Linux only, and this is darwin"

    @pytest.mark.parametrize("name", ["no-such-compiler", "/no/such/compiler", ""])
    def test_no_compiler(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", name)
        assert "no C compiler was found" in self.refused()

    def test_a_compiler_that_does_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = script(tmp_path / "broken", "echo no licence >&2\necho second line >&2\nexit 1")
        monkeypatch.setenv("CC", str(broken))
        assert self.refused() == f"{broken} could not build them: no licence"

    def test_a_compiler_that_says_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", str(script(tmp_path / "silent", "exit 3")))
        assert "returned non-zero exit status 3" in self.refused()

    def test_sources_that_it_does_not_take(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Nor is anything left of what it had written by then."""
        half = 'for last; do :; done\necho half > "$last"\necho "error: unknown flag" >&2\nexit 1'
        old = script(tmp_path / "old", f'[ "$1" = --version ] && exec echo "old 1"\n{half}')
        monkeypatch.setenv("CC", str(old))
        assert self.refused() == f"{old} could not build them: error: unknown flag"
        assert list(cache.iterdir()) == []

    def test_a_compiler_that_takes_too_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        slow = script(tmp_path / "slow", '[ "$1" = --version ] && exec echo "slow 1"\nexec sleep 20')
        monkeypatch.setenv("CC", str(slow))
        monkeypatch.setattr(building, "_SECONDS", 0.3)
        assert "timed out" in self.refused()
        assert list(cache.iterdir()) == []

    @pytest.mark.usefixtures("builds")
    @needs_compiler
    def test_a_cache_that_cannot_be_written(self, cache: Path) -> None:
        """A file stands where the folder should: a folder without permission would be none to root."""
        cache.parent.write_text("")
        assert "could not build them" in self.refused()

    @pytest.mark.usefixtures("builds")
    def test_what_was_built_is_no_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        odd = script(tmp_path / "odd", '[ "$1" = --version ] || for last; do :; done; echo text > "${last:-/dev/null}"')
        monkeypatch.setenv("CC", str(odd))
        assert "could not build them" in self.refused()

    def test_another_openmp(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", str(script(tmp_path / "other", "echo Debian clang version 19")))
        assert "is clang" in self.refused()

    @pytest.mark.usefixtures("builds")
    def test_a_folder_that_others_may_write_to(self, cache: Path) -> None:
        """What lies there would be run."""
        cache.mkdir(parents=True)
        cache.chmod(0o777)
        assert "can be written by others" in self.refused()
        assert list(cache.iterdir()) == []


@needs_compiler
class TestKeeping:
    def test_arguments_of_the_compiler(self, builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", f"env {os.environ['CC']}")
        assert anew().library is not None
        assert len(builds.read_text().splitlines()) == 1

    def test_one_that_was_cut_short(self, builds: Path, cache: Path) -> None:
        """Is made again."""
        anew()
        (made,) = cache.iterdir()
        whole = made.read_bytes()
        made.unlink()  # what is loaded must keep its own
        made.write_bytes(whole[:100])
        found = anew()
        assert found.library is not None
        assert found.version == made.stem
        assert made.read_bytes() == whole
        assert len(builds.read_text().splitlines()) == 2

    def test_once(self, builds: Path, cache: Path) -> None:
        first, second = anew(), anew()
        assert first.library is not None
        assert second.library is not None
        assert (first.tiles, first.vectors, first.reason) == (False, False, "compiled for this processor")
        assert len(builds.read_text().splitlines()) == 1
        (made,) = cache.iterdir()
        assert first.version == second.version == made.stem
        assert Path(second.library._name) == made

    def test_vectors_on_amd_alone(self, builds: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both makers have the instructions; on Intel torch's products were not found slower."""
        known = Processor("one", frozenset({"avx512f", "avx512_bf16"}), "AuthenticAMD")
        monkeypatch.setattr(building, "this_processor", lambda: known)
        found = anew()
        (made,) = cache.iterdir()
        assert (found.tiles, found.vectors, found.version) == (False, True, f"{made.stem} vectors")
        assert found.reason == "compiled for this processor, with AVX-512 products"
        monkeypatch.setattr(building, "this_processor", lambda: known._replace(maker="GenuineIntel"))
        assert not anew().vectors

    def test_another_flag(self, builds: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        anew()
        monkeypatch.setattr(building, "_FLAGS", (*building._FLAGS, "-DANOTHER"))
        anew()
        first, second = builds.read_text().splitlines()
        assert "-DANOTHER" not in first
        assert "-DANOTHER" in second
        assert len(list(cache.iterdir())) == 2

    @pytest.mark.parametrize("name", ["gemm.c", "tiles.h"])
    def test_another_source(
        self, name: str, builds: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(building, "_SOURCES", shutil.copytree(building._SOURCES, tmp_path / "source"))
        anew()
        with (tmp_path / "source" / name).open("a") as source:
            source.write("/* changed */\n")
        anew()
        assert len(builds.read_text().splitlines()) == len(list(cache.iterdir())) == 2

    def test_another_processor(self, builds: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        anew()
        monkeypatch.setattr(building, "this_processor", lambda: Processor("another", frozenset({"fpu"})))
        anew()
        assert len(builds.read_text().splitlines()) == len(list(cache.iterdir())) == 2

    def test_another_compiler(self, builds: Path, cache: Path) -> None:
        """The same command, updated."""
        anew()
        compiler = Path(os.environ["CC"])
        compiler.write_text(compiler.read_text().replace("noting 1", "noting 2"))
        anew()
        assert len(builds.read_text().splitlines()) == len(list(cache.iterdir())) == 2


@needs_compiler
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names a processor of another kind")
def test_compiles_for_a_processor_without_tiles(tmp_path: Path) -> None:
    """Nor with any wide vectors: what needs them is left out, and nothing that is left calls it."""
    flags = [flag for flag in building._FLAGS if not flag.startswith(("-march", "-O"))]
    files = [str(source) for source in building._SOURCES.glob("*.c")]
    out = str(tmp_path / "plain.so")
    command = ["cc", "-march=x86-64", "-O0", "-Wl,-z,defs", *flags, *files, "-lm", "-o", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[:5]


def test_a_model_without_them() -> None:
    """Everything in torch."""
    surrounding = os.environ | {building.SWITCH: "off", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=surrounding)
    assert done.stdout.split() == ["None", "True", "4"], done.stderr
