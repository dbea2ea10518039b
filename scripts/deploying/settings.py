"""Parameters and tags of a deployment, from options or from a file for a stage."""

import argparse
import json
import pathlib
import re
import sys

# Parameters that `make deploy` sets. Setting one by a file or an option would revert a part of the rollout.
OWN = {
    "ArtifactBucket", "CodeKey", "TemplatesPrefix", "LiveVersion", "CanaryVersion", "CanaryWeight", "PreviousVersion", "TasksAlias",
    "LiveTasksAlias",
}
MAX_NAME = 40
# The alarms of infra/monitoring.yaml fire at an error rate of more than 1 % of all requests, in three of five minutes. A canary with a
# smaller part of the requests, or a shorter one, could fail every request without an alarm.
LEAST_WEIGHT, LEAST_MINUTES = 0.02, 5


def assignment(text):
    """Parses NAME=VALUE of the command line."""
    name, is_one, value = text.partition("=")
    if not is_one or not name:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def weight(text):
    """Parses the part of the requests that a canary serves. None if the text is empty."""
    if not text:
        return None
    if not re.fullmatch(r"0?\.\d{1,4}", text, re.ASCII) or not float(text):
        raise argparse.ArgumentTypeError(f"{text} is not a part of the requests, such as 0.1")
    if float(text) < LEAST_WEIGHT:
        raise argparse.ArgumentTypeError(f"{text} is too small: alarms need more than 1 % of the requests, use {LEAST_WEIGHT} or more")
    return f"0{text}" if text.startswith(".") else text


def minutes(text):
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not LEAST_MINUTES <= int(text) <= 240:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes from {LEAST_MINUTES}, which alarms need, to 240")
    return int(text)


def version(text):
    if not re.fullmatch(r"[1-9]\d{0,17}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text} is not the number of a version")
    return text


def digest(text):
    """Parses the SHA-256 of a zip. None if the text is empty."""
    if text and not re.fullmatch(r"[0-9a-f]{64}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text} is not a SHA-256 in lower-case hexadecimal digits")
    return text or None


def names(text):
    return set(re.findall(r"[^,\s]+", text))


def file(text):
    return pathlib.Path(text) if text else None


class Settings:
    """Parameters and tags of a stack. Those of the command line take precedence over those of the file."""

    def __init__(self, arguments):
        parameters, tags = read_file(arguments.parameters_file) if arguments.parameters_file else ({}, {})
        self.parameters = parameters | dict(arguments.parameters)
        self.tags = tags | dict(arguments.tags)
        if own := {name for name in self.parameters if name in OWN or name.startswith("Live")}:
            sys.exit(f"{', '.join(sorted(own))}: set by make deploy itself; leave them out")


def read_file(path):
    """Reads the file of a stage, in the format of CodePipeline: {"Parameters": {NAME: VALUE}, "Tags": {NAME: VALUE}}."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        sys.exit(f"{path} is not JSON: {error}")
    if not isinstance(content, dict) or not content.keys() <= {"Parameters", "Tags"}:
        sys.exit(f'{path} must have the form {{"Parameters": {{…}}, "Tags": {{…}}}}')
    parts = [content.get(name, {}) for name in ("Parameters", "Tags")]
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
            sys.exit(f'{path}: every value of Parameters and Tags must be a string, such as "10"')
    return parts


def unique(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("it has a name twice")
    return dict(pairs)
