"""Completes the template of a stack with what it takes over from infra/function.yaml: parameters, conditions, outputs.

A template has a line for each, which is replaced:

    Parameters:
      # + the parameters of infra/function.yaml
    Conditions:
      # + the conditions of infra/function.yaml
    Resources:
      Function:
        Properties:
          Parameters:
            # + the parameters of infra/function.yaml
    Outputs:
      # + the outputs of infra/function.yaml

The template's own lines win: a parameter that it declares is not declared again, and one that it sets for the function is neither
declared nor passed on. A template without such a line stays as it is.

`# + the resources of infra/parts/NAME.yaml` stands for that section of a part, without the names that the template has itself. In
the parameters of the resource Function, `# + the parameters of infra/parts/NAME.yaml` stands for those that the part sets there. Parts
are replaced first: they have lines of infra/function.yaml and of other parts themselves.

There is no YAML library where a deployment runs. Therefore this module reads lines. Names of a section are indented by two.
"""

import re
import sys

MARKER = re.compile(r"( *)# \+ the (parameters|conditions|outputs) of infra/function\.yaml")
OF_PART = re.compile(r"( *)# \+ the (parameters|rules|conditions|resources|outputs) of infra/parts/([a-z]+)\.yaml")
# In a comment of function.yaml above parameters that stacks set, and do not declare.
SET_BY_STACKS = "The stack sets these."
CONDITION = re.compile(r"    Condition: (\w+)")
VALUE = re.compile(r"    Value: ")


def completed(template, function, parts=None):
    """The text of a template, with what it takes over from the text of function.yaml, and from the files of the folder `parts`."""
    lines, shared = with_parts(template.splitlines(), parts), function.splitlines()
    markers = {number: MARKER.fullmatch(line) for number, line in enumerate(lines) if line.lstrip().startswith("# +")}
    for number, marker in markers.items():
        if not marker:
            sys.exit(f"`{lines[number].strip()}` is no part of infra/function.yaml: scripts/completion.py has those that a stack takes over")
    if not markers and lines == template.splitlines():
        return template
    result = []
    for number, line in enumerate(lines):
        marker = markers.get(number)
        result += added(marker[2], number, lines, shared) if marker else [line]
    return "\n".join(result) + "\n"


def with_parts(lines, folder):
    """The lines, with sections of parts in place of their markers."""
    result = []
    for number, line in enumerate(lines):
        marker = OF_PART.fullmatch(line)
        if not marker:
            result.append(line)
            continue
        path = folder / f"{marker[3]}.yaml"
        if not path.exists():
            sys.exit(f"`{line.strip()}`: there is no {path}")
        part = with_parts(path.read_text().splitlines(), folder)
        section = below(part, f"{marker[2].capitalize()}:") if indent(line) == 2 else set_in(part)
        result += without(siblings(number, lines), section, indent(line))
    return result


def set_in(part):
    """The lines of the parameters that a part sets for the function."""
    own = blocks_with_comments(below(part, "Resources:"), 2)["Function"]
    return own[own.index("      Parameters:") + 1 :]


def without(names, section, depth):
    """The lines of a section, with neither the blocks of these names nor empty lines at its end."""
    found = [line for name, block in blocks_with_comments(section, depth).items() if name not in names for line in block]
    while found and not found[-1].strip():
        found.pop()
    return found


def blocks_with_comments(section, depth):
    """The lines of each name at a depth, with the comments above it. A line for function.yaml is a name of its own."""
    found, above, name = {}, [], None
    for line in section:
        is_own = line.strip() and indent(line) == depth
        if is_own and is_comment(line) and not MARKER.fullmatch(line):
            above.append(line)
        elif is_own:
            name = line.strip() if is_comment(line) else line.strip().partition(":")[0]
            found[name], above = [*above, line], []
        else:
            (above or found[name]).append(line)
    return found


def added(kind, number, lines, shared):
    """The lines in place of a marker."""
    if kind == "parameters" and indent(lines[number]) > 2:
        return passed_on(number, lines, shared)
    own, others = blocks(lines, kind.capitalize()), blocks(shared, kind.capitalize())
    if kind == "parameters":
        excluded = {*own, *set_by_stacks(shared), *set_for_function(lines)}
        return [line for name, block in others.items() if name not in excluded for line in block]
    outputs = blocks(shared, "Outputs")
    if kind == "conditions":
        used = {found[1] for block in outputs.values() for line in block if (found := CONDITION.fullmatch(line))}
        return [line for name, block in others.items() if name in used - {*own} for line in block]
    return [line for name, block in outputs.items() if name not in own for line in output(name, block)]


def passed_on(number, lines, shared):
    """The parameters that the stack does not set itself. Of those that stacks set, it passes on the ones that it declares."""
    left_out = set_by_stacks(shared) - {*blocks(lines, "Parameters")} | siblings(number, lines)
    return [f"{' ' * indent(lines[number])}{name}: !Ref {name}" for name in blocks(shared, "Parameters") if name not in left_out]


def output(name, block):
    """The same output of a stack, whose resource Function is the nested stack. Its value is the last part."""
    value = next(number for number, line in enumerate(block) if VALUE.match(line))
    return [*block[:value], f"    Value: !GetAtt Function.Outputs.{name}"]


def blocks(lines, section):
    """The lines of each name in a section, without comments between them."""
    found, block = {}, []
    for line in below(lines, f"{section}:"):
        if indent(line) == 2:
            block = [] if is_comment(line) else found.setdefault(line.strip().partition(":")[0], [])
        if line.strip():
            block.append(line)
    return found


def below(lines, head):
    """The lines of a section."""
    start = lines.index(head) + 1 if head in lines else len(lines)
    end = next((number for number in range(start, len(lines)) if lines[number].strip() and not indent(lines[number])), len(lines))
    return lines[start:end]


def set_by_stacks(shared):
    """The parameters below the comment that stacks set them."""
    found, is_below = set(), False
    for line in below(shared, "Parameters:"):
        if indent(line) == 2 and is_comment(line):
            is_below = SET_BY_STACKS in line
        elif indent(line) == 2 and is_below:
            found.add(line.strip().partition(":")[0])
    return found


def set_for_function(lines):
    """The parameters of function.yaml that the stack sets."""
    inner = [number for number, line in enumerate(lines) if MARKER.fullmatch(line) and indent(line) > 2]
    return set().union(*(siblings(number, lines) for number in inner))


def siblings(number, lines):
    """The names beside a line, at its depth."""
    depth, found = indent(lines[number]), set()
    for step in (-1, 1):
        at = number + step
        while 0 <= at < len(lines) and (not lines[at].strip() or indent(lines[at]) >= depth):
            if indent(lines[at]) == depth and lines[at].strip() and not is_comment(lines[at]):
                found.add(lines[at].strip().partition(":")[0])
            at += step
    return found


def indent(line):
    return len(line) - len(line.lstrip(" "))


def is_comment(line):
    return line.lstrip().startswith("#")
