"""Debian or Ubuntu programs that only tests need, unpacked into the tool folder: nothing is installed, and root is not
needed. An archive keeps only the newest build of a package, so that no version can be pinned."""

import shutil
import subprocess

import tools


class Unavailable(Exception):
    """Something cannot be had on this machine; the text says why."""


def unpacked(name, packages, only=None):
    """The folder in which these packages are laid out as under /, or what is wanted of them alone."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable(f"{name} is taken from Debian's or Ubuntu's archive, and this is neither")
    folder = tools.FOLDER / "debian" / name
    with tools.locked(tools.FOLDER / "debian" / f"{name}.lock"):
        return unpack(folder, packages, only)


def unpack(folder, packages, only):
    root, stamp = folder / "root", folder / "packages"
    wanted = " ".join([*packages, *(only or [])])
    if stamp.exists() and stamp.read_text() == wanted:
        return root
    tools.say(f"unpacking {' '.join(packages)}")
    shutil.rmtree(folder, ignore_errors=True)
    whole, lists, cache = folder / "whole", folder / "lists", folder / "cache"
    for made in (whole, lists / "partial", cache / "archives" / "partial"):
        made.mkdir(parents=True)
    apt = ["apt-get", "--quiet=2", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    apt += ["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
    for words in (["update"], ["download", *packages]):
        ran = subprocess.run([*apt, *words], cwd=folder, capture_output=True, text=True)
        if ran.returncode:
            raise Unavailable(f"apt-get {' '.join(words)} failed:\n{ran.stderr.strip()}")
    for package in sorted(folder.glob("*.deb")):
        tools.run(["dpkg-deb", "--extract", package, whole])
        package.unlink()
    for path in only or ["."]:
        if (whole / path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (whole / path).rename(root / path)
    for own in (whole, lists, cache):
        shutil.rmtree(own, ignore_errors=True)
    stamp.write_text(wanted)
    return root


def variables(root):
    """What programs need in their environment to find their libraries there."""
    folders = [root / place / f"{machine}-linux-gnu" for place in ("usr/lib", "lib") for machine in ("x86_64", "aarch64")]
    return {"LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders if folder.is_dir())}
