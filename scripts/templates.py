"""The templates of the stacks: where they are, and which variables they give a function.

    python3 scripts/templates.py STACK     prints the function that the stack deploys, or an empty line

There is no YAML library where a deployment runs. Therefore this module reads one form of lines. Everything else counts as unknown.
"""

import re
import shutil
import sys

import tools
from completion import completed

INFRA = tools.FRAMEWORK / "infra"
# Below Cargo's target folder: the templates for other tools than `make deploy`.
FOLDER = "templates"
SHARED = sorted(INFRA.glob("*.yaml"))
FUNCTION = INFRA / "function.yaml"
PARTS = INFRA / "parts"
# How a template names one that it contains.
NESTED = re.compile(r"\$\{TemplatesPrefix\}/([a-z0-9-]+)\.yaml")
ABOUT_ISSUERS = re.compile(r"OIDC_|COGNITO_|GOOGLE_CLIENT_ID$")
# The function's variables in a template: the one line that begins them, a line of one, and the values that are understood.
VARIABLES = re.compile(r"^( *)Variables:$", re.MULTILINE)
VARIABLE = re.compile(r"([A-Za-z]\w*):(?: +(.*?))?(?: +#.*)?")
TEXT = r"""(?:"([^"\\]*)"|'([^']*)'|([\w./][\w./@-]*(?::[\w./@-]+)*))"""
REFERENCE = r"!Ref (\w+)"
VALUE = re.compile(rf"(?:{TEXT}|{REFERENCE})", re.ASCII)
CHOICE = re.compile(r"!If \[\w+, ([^,\[\]]+), ([^,\[\]]+)\]")
# The parameters that a stack passes to function.yaml, among them those with the lines of further variables.
PASSED = re.compile(r"^( *)TemplateURL: \S+ \S+/function\.yaml\n\1Parameters:$", re.MULTILINE)
FURTHER = ("MoreVariables", "FurtherVariables")
ASSIGNED = re.compile(r" *(\w+)=(.*)", re.ASCII)


def of_functions(workspace=tools.PROJECT):
    """The templates in the folders of functions, by the names of their stacks: `stack.yaml` has the name of the function, and
    `stack-NAME.yaml` this name after it."""
    paths = sorted(workspace.glob("functions/*/stack*.yaml"))
    return {f"{path.parent.name}{path.stem.removeprefix('stack')}": path for path in paths}


def shipped():
    """The templates of the framework's own functions. Those of product functions are theirs to check (`make check FUNCTION=…`)."""
    return {name: path for name, path in of_functions().items() if path.parent.name in tools.SHIPPED}


def path_of(stack):
    """The template of a stack: of a function, or one of infra/."""
    return of_functions().get(stack, INFRA / f"{stack}.yaml")


def function_of(stack):
    """The function that a stack deploys; None for a template of infra/."""
    path = path_of(stack)
    if path.parent.parent.name == "functions":
        return path.parent.name
    # Without a stack, by `make deploy-code`.
    return stack if stack in tools.FUNCTIONS else None


def nested_in(template):
    """The templates that a template contains, by name."""
    return set(NESTED.findall(template))


def text_of(stack):
    """The text of a stack's template, completed from infra/parts and infra/function.yaml: plain CloudFormation."""
    return completed(path_of(stack).read_text(), FUNCTION.read_text(), PARTS)


def with_nested(stack):
    """The texts of a stack's template and of all that may be nested in it, by name."""
    texts = {stack: text_of(stack)}
    paths = {path.stem: path for path in SHARED}
    while missing := set().union(*map(nested_in, texts.values())) - texts.keys():
        texts |= {name: paths[name].read_text() for name in missing}
    return texts


def write(folder):
    """Writes the templates into a folder: those of all stacks, completed, and those that they contain."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in SHARED:
        (folder / path.name).write_text(path.read_text())
    for stack in stacks():
        (folder / f"{stack}.yaml").write_text(text_of(stack))


def stacks():
    """The templates that are deployed by themselves: those of the functions, and those that no other one contains."""
    functions = sorted(of_functions())
    texts = [path.read_text() for path in [*SHARED, *PARTS.glob("*.yaml"), *map(path_of, functions)]]
    nested = {name for text in texts for name in nested_in(text)}
    return functions + [path.stem for path in SHARED if path.stem not in nested]


def function_variables(template, values, defaults):
    """The variables that a stack's function gets from function.yaml, as `variables_of`. `values` are the parameters of the stack,
    `defaults` those of function.yaml."""
    passed = passed_on(template, values)
    if passed is None:
        yield "", None
        return
    yield from variables_of(FUNCTION.read_text(), {**defaults, **{name: values for name, (values, _) in passed.items()}})
    for name in FURTHER:
        yield from further_variables(*passed.get(name, ([""], [])))


def passed_on(template, values):
    """What a stack passes to function.yaml: by parameter, the values that it may have, and the lines below it. None if that is
    not understood."""
    begins = list(PASSED.finditer(template))
    if len(begins) != 1:
        return None
    passed, name = {}, None
    for is_own, content in lines_below(template[begins[0].end():], len(begins[0][1])):
        if not is_own:
            passed[name][1].append(content)
            continue
        parameter = VARIABLE.fullmatch(content)
        if not parameter:
            return None
        name = parameter[1]
        passed[name] = (candidates(parameter[2] or "", values), [])
    return passed


def further_variables(values, lines):
    """The variables in the lines of a parameter, which is `NAME=value` in each."""
    if not lines:
        lines = [line for value in values for line in ([None] if value is None else value.splitlines())]
    for line in lines:
        assigned = ASSIGNED.fullmatch(line or "")
        if line is None or not assigned and re.search(r"=|MCP_AUTH|OIDC_|COGNITO_|GOOGLE_CLIENT_ID|\\", line):
            yield "", None
        elif assigned and is_about_auth(assigned[1]):
            yield assigned[1], None if "${" in assigned[2] else assigned[2]


def variables_of(template, values):
    """The function's variables that decide whether it verifies tokens, as CloudFormation will set them: names and values. The
    value is None, which is unknown, for everything that is not understood. `values` are those of the parameters; a list has
    those that a parameter may have."""
    begins = VARIABLES.findall(template)
    # Written otherwise, or a second function's.
    if len(begins) != 1 or len(re.findall(r"\bVariables\b", template)) != 1:
        yield "", None
    for begin in VARIABLES.finditer(template):
        name = ""
        for is_own, content in lines_below(template[begin.end():], len(begin[1])):
            if not is_own:
                # It continues the value before.
                if is_about_auth(name):
                    yield name, None
                continue
            variable = VARIABLE.fullmatch(content)
            name = variable[1] if variable else ""
            if not variable:
                yield "", None
            elif is_about_auth(name):
                yield from ((name, value) for value in candidates(variable[2] or "", values))


def lines_below(text, outer):
    """The lines that are further in than `outer`, without comments: whether one is at the depth of the first, and its content."""
    depth = None
    for line in text.splitlines():
        content = line.lstrip(" ")
        if not content or content.startswith("#"):
            continue
        indent = len(line) - len(content)
        if indent <= outer:
            return
        depth = depth or indent
        yield indent <= depth, content


def candidates(written, values):
    """The values that a written one may have; None for one that is unknown."""
    choice = CHOICE.fullmatch(written)
    return [value for own in (choice.groups() if choice else [written]) for value in values_of(own, values)]


def values_of(written, values):
    value = VALUE.fullmatch(written)
    if not value:
        return [None]
    if value[4]:
        found = values.get(value[4])
        return found if isinstance(found, list) else [found]
    return [next(text for text in value.groups() if text is not None)]


def is_about_auth(name):
    return name == "MCP_AUTH" or bool(ABOUT_ISSUERS.match(name))


if __name__ == "__main__":
    print(function_of(sys.argv[1]) or "")
