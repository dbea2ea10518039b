"""The order of mcp-server's modules: nothing uses a module above it, and no files use each other in a circle.

The table in its lib.rs has the modules from the bottom up. `use` and paths in the code count; tests and comments do not.
"""

import re

CRATE = "crates/mcp-server/src"

ROW = re.compile(r"^//! \| ((?:`\w+`(?:, )?)+) \|", re.MULTILINE)
USE = re.compile(r"^\s*(pub(?:\(crate\))? )?use (\w[^;]*);", re.MULTILINE)
PATH = re.compile(r"(?<![\w:$])[a-z]\w*(?:::\w+)+")
CHILD = re.compile(r"^(?:pub(?:\(crate\))? )?mod (\w+);", re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*")
TOKEN = re.compile(r"\w+|::|[{},*]")


def misplaced(project):
    """Uses of a module that is above, or of one that leads back to the file."""
    files = modules(project / CRATE)
    order = [name for row in ROW.findall((project / CRATE / "lib.rs").read_text()) for name in re.findall(r"\w+", row)]
    rooms = {module[0] for module in files if module}
    yield from (f"{CRATE}/lib.rs: `{name}` is not in the table of modules" for name in sorted(rooms - set(order)))
    yield from (f"{CRATE}/lib.rs: the table of modules names `{name}`, which is not there" for name in order if name not in rooms)
    exports = {module: reexports(module, code) for module, code in files.items()}
    used = {
        module: {target for path in paths(module, code) if (target := resolve(path, files, exports)) not in (None, (), module)}
        for module, code in files.items()
        if module
    }
    for module, targets in sorted(used.items()):
        for target in sorted(targets):
            if module[0] in order and target[0] in order and order.index(target[0]) > order.index(module[0]):
                yield f"{CRATE}/{'/'.join(module)}.rs uses {'::'.join(target)}, which is above it"
    # A circle through several rooms has a use of what is above.
    inside = {module: {target for target in targets if target[0] == module[0]} for module, targets in used.items()}
    yield from (f"{CRATE}: {' uses '.join('::'.join(own) for own in circle)}" for circle in circles(inside))


def modules(folder):
    """The code of each file by the path of its module, without comments and tests."""
    found = {}
    for path in sorted(folder.rglob("*.rs")):
        if path.name == "tests.rs":
            continue
        code = COMMENT.sub("", path.read_text().partition("#[cfg(test)]\nmod tests {")[0])
        found[() if path.name == "lib.rs" else path.relative_to(folder).with_suffix("").parts] = code
    return found


def paths(module, code):
    """Each path within the crate that a file names, from its root."""
    named = [path for _, tree in USE.findall(code) for path, _ in leaves(tree)]
    named += [path.split("::") for path in PATH.findall(USE.sub("", code))]
    yield from (own for path in named if (own := absolute(module, code, path)))


def reexports(module, code):
    """What each name of a module stands for that it takes from elsewhere."""
    found = {}
    for visibility, tree in USE.findall(code):
        if visibility:
            found |= {name: own for path, name in leaves(tree) if (own := absolute(module, code, path))}
    return found


def leaves(tree):
    """The paths of a `use` tree, each with the name that it gets."""
    tokens = TOKEN.findall(tree)

    def branch(prefix):
        path = list(prefix)
        while tokens and tokens[0] not in (",", "}"):
            token = tokens.pop(0)
            if token == "{":
                while tokens[0] != "}":
                    yield from branch(path)
                    if tokens[0] == ",":
                        tokens.pop(0)
                tokens.pop(0)
                return
            if token == "as":
                yield path, tokens.pop(0)
                return
            if token not in ("::", "*") and not (token == "self" and path):
                path.append(token)
        yield path, path[-1]

    yield from branch([])


def absolute(module, code, path):
    """A path from the root of the crate; `None` in another crate."""
    path = list(path)
    base = list(module)
    first = path.pop(0)
    if first == "crate":
        base = []
    elif first == "super":
        base = base[:-1]
        while path and path[0] == "super":
            base, path = base[:-1], path[1:]
    elif first in CHILD.findall(code):
        path = [first, *path]
    elif first != "self":
        return None
    return (*base, *path)


def resolve(path, files, exports, depth=0):
    """The module that has what a path names, through the names that others pass on."""
    module = ()
    for position, name in enumerate(path):
        if (*module, name) in files:
            module = (*module, name)
        elif name in exports.get(module, {}) and depth < 8:
            return resolve((*exports[module][name], *path[position + 1 :]), files, exports, depth + 1)
        else:
            break
    return module


def circles(used):
    """One circle for each group of files that use each other."""
    done, found = set(), []

    def walk(module, way):
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for target in sorted(used.get(module, ())):
                walk(target, [*way, module])
            done.add(module)

    for module in sorted(used):
        walk(module, [])
    return found
