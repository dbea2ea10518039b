"""Programs of Debian's that only tests need, unpacked into the tool folder: nothing is installed, and nobody has to be root."""

import shutil

import tools


def unpacked(name, packages):
    """The folder in which these packages are laid out as under /; `None` on a machine that is no Debian."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    folder = tools.FOLDER / "debian" / name
    root, stamp = folder / "root", folder / "packages"
    wanted = " ".join(packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return root
    tools.say(f"unpacking {wanted}")
    shutil.rmtree(folder, ignore_errors=True)
    lists = folder / "lists"
    for made in (root, lists / "partial", folder / "cache" / "archives" / "partial"):
        made.mkdir(parents=True)
    apt = ["apt-get", "--quiet=2", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder / 'cache'}"]
    apt += ["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
    tools.run([*apt, "update"], cwd=folder)
    tools.run([*apt, "download", *packages], cwd=folder)
    for package in sorted(folder.glob("*.deb")):
        tools.run(["dpkg-deb", "-x", package, root])
        package.unlink()
    for own in (lists, folder / "cache"):
        shutil.rmtree(own)
    stamp.write_text(wanted)
    return root


def variables(root):
    """What programs need in their environment to find their libraries there."""
    folders = [root / place / f"{machine}-linux-gnu" for place in ("usr/lib", "lib") for machine in ("x86_64", "aarch64")]
    return {"LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders if folder.is_dir())}
