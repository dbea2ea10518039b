"""The features that a function is built and deployed with."""

import re
import sys

import build
import templates
import tools

# The one of a stack with Tasks=on.
TASKS = "tasks"
# A line of an env file.
ASSIGNMENT = re.compile(r"""(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(?:"([^"\\$`]*)"|'([^'\\]*)'|([^\s"'\\$`#]*))(?:[ \t]+\#.*)?""")
OTHER_ASSIGNMENT = re.compile(r"""(?:export[ \t]+)?(\w+)[ \t]*=[^"']*""")
# The name of a zip in the bucket: function, features, SHA-256.
CODE_KEY = re.compile(r"code/([\w-]+)/([\w.-]+)/([0-9a-f]{64})\.zip", re.ASCII)
# The tag of a function that `make deploy-code` deployed without a stack.
FEATURES_TAG = "mcp-features"


def stack_features(stack, arguments, given):
    """Returns the features to deploy a stack's function with."""
    template = templates.text_of(arguments.subject)
    values = stack.defaults(template) | stack.values() | given
    if templates.PASSED.search(template):
        variables = templates.function_variables(template, values, stack.defaults(templates.FUNCTION.read_text()))
    else:
        variables = templates.variables_of(template, values)
    needed = {build.AUTH} if needs_auth(variables) else set()
    if has_tasks(values):
        needed.add(TASKS)
        if TASKS not in tools.features(templates.function_of(arguments.subject)):
            sys.exit(f"{arguments.subject} has no feature {TASKS}: leave out Tasks=on, or add the feature to its Cargo.toml")
    return choose_features(arguments, needed, running(templates.function_of(arguments.subject), stack))


def has_tasks(values):
    """Whether a stack with these parameters has a function that runs tasks."""
    return values.get("Tasks") == "on"


def running(function, stack):
    """Returns the features of the last deployment of a stack's function. None if they are unknown."""
    if not stack.is_made:
        return []
    key = CODE_KEY.fullmatch(stack.values().get("CodeKey", ""))
    return features_in(key[2]) if key and key[1] == function else None


def needs_auth(variables):
    """Whether a function with these variables starts only if it was built with `auth`: the rule of
    crates/mcp-lambda/src/authentication.rs, without its exceptions (`MCP_AUTH=iam` and `dangerously-off` start either way).
    A value that is unknown (None) counts as set."""
    return any(
        value is None
        or (value.strip() == "required" if name == "MCP_AUTH" else bool(templates.ABOUT_ISSUERS.match(name) and value.strip()))
        for name, value in variables
    )


def choose_features(arguments, needed, running):
    """Returns the features of --features, or those of the running deployment (None if they are unknown). Adds those that are needed
    and that the function has."""
    function = templates.function_of(arguments.subject)
    offered = set(tools.features(function))
    named = arguments.features
    if named is None:
        if running is None and offered - {build.AUTH}:
            sys.exit(
                f"the features of the running {function} are unknown: name them, as in FEATURES={min(offered - {build.AUTH})}, "
                f"or FEATURES={build.NO_FEATURES}"
            )
        named = set(running or ()) - {build.AUTH}
    if unknown := set(named) - offered:
        sys.exit(
            f"{function} has no feature {', '.join(sorted(unknown))}: set FEATURES to some of "
            f"{', '.join(sorted(offered | {build.NO_FEATURES}))}"
        )
    return sorted({*named, *(needed & offered)})


def features_in(text):
    """Parses the features in a key or a tag. None if this script did not write it."""
    features = [] if text == build.NO_FEATURES else text.split(".")
    return None if "" in features or build.NO_FEATURES in features else features


def code_features(client, arguments):
    """The same for a function without a stack: variables that it has stay, and its tag says what it was deployed with."""
    try:
        function = client.get_function(FunctionName=arguments.subject)
    except client.exceptions.ResourceNotFoundException:
        variables, running = {}, []
    else:
        variables = function["Configuration"].get("Environment", {}).get("Variables", {})
        tagged = function.get("Tags", {}).get(FEATURES_TAG)
        running = tagged and features_in(tagged)
    if arguments.env_file:
        variables |= assigned_in(arguments.env_file.read_text(encoding="utf-8-sig"))
    return choose_features(arguments, {build.AUTH} if needs_auth(variables.items()) else set(), running)


def assigned_in(text):
    """The variables of an env file by name; with None by "", if it has a line that is not understood."""
    variables = {}
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if assigned := ASSIGNMENT.fullmatch(line):
            variables[assigned[1]] = next(value for value in assigned.groups()[1:] if value is not None)
        elif not (other := OTHER_ASSIGNMENT.fullmatch(line)) or templates.is_about_auth(other[1]):
            variables[""] = None
    return variables
