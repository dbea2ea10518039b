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

There is no YAML library where a deployment runs. Therefore this module reads lines. Names of a section are indented by two.
"""

import re
import sys

MARKER = re.compile(r"( *)# \+ the (parameters|conditions|outputs) of infra/function\.yaml")
# In a comment of function.yaml above parameters that stacks set, and do not declare.
SET_BY_STACKS = "The stack sets these."
CONDITION = re.compile(r"    Condition: (\w+)")
VALUE = re.compile(r"    Value: ")


def completed(template, function):
    """The text of a template, with what it takes over from the text of function.yaml."""
    lines, shared = template.splitlines(), function.splitlines()
    markers = {number: MARKER.fullmatch(line) for number, line in enumerate(lines) if line.lstrip().startswith("# +")}
    for number, marker in markers.items():
        if not marker:
            sys.exit(f"`{lines[number].strip()}` is no part of infra/function.yaml: scripts/completion.py has those that a stack takes over")
    if not markers:
        return template
    result = []
    for number, line in enumerate(lines):
        marker = markers.get(number)
        result += added(marker[2], number, lines, shared) if marker else [line]
    return "\n".join(result) + "\n"


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
