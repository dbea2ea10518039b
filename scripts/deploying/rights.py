"""Rights of the live version, while the first update of a deployment changes parameters by which the role of the function gets rights.

Variables belong to a version, and the role to all versions. Beside a parameter such as StateKey a template has LiveStateKey, its value
in the deployment of the live version. The role has the rights of both. LiveStateKey is set when a new version serves all requests.
"""

import sys

from deploying import settings

PREFIX = "Live"
# Changes of a database that no `Live…` delays: the first update of a deployment takes it from the live version.
AT_ONCE = {"ClusterArn", "DatabaseAuth", "DatabaseHost", "DatabaseProxy"}
GENERATED, GENERATED_SECRET = "generated", "StateKeySecret"


def kept(values, known):
    """Returns the parameters of the first update that keep rights of the live version, if the stack's own template did not have them."""
    return {live: values[name] for live, name in pairs(known) if live not in values and name in values}


def of_new_version(values):
    """Returns the parameters that give the version of the first update, and none before, its rights."""
    return {live: values[name] for live, name in pairs(values)}


def pairs(known):
    """The parameters of a template that keep rights, each with the parameter whose value they have."""
    return [(PREFIX + name, name) for name in sorted(known) if PREFIX + name in known and PREFIX + name not in settings.OWN]


def refuse_loss(values, given, arguments):
    """Exits before a change that would take rights from the live version during a canary, or delete its generated state key although
    `REPLACE` does not name it."""
    at_once = ", ".join(sorted(name for name in AT_ONCE & given.keys() if given[name] != values.get(name, "")))
    if at_once and arguments.canary:
        sys.exit(
            f"no canary with another value of {at_once}: the first update takes the database from version {values['LiveVersion']}. Deploy "
            "without CANARY=; requests can fail until the new version serves them."
        )
    if at_once:
        print(f"note     {at_once}: version {values['LiveVersion']} loses its database with the first update, before the new version serves requests")
    is_generated = values.get("LiveStateKey", values.get("StateKey")) == GENERATED
    is_named = bool({GENERATED_SECRET, f"Function/{GENERATED_SECRET}"} & arguments.replace)
    if is_generated and given.get("StateKey", values["StateKey"]) != GENERATED and not is_named:
        sys.exit(
            f"this would replace or remove Function/{GENERATED_SECRET} (AWS::SecretsManager::Secret), as soon as the new version serves all "
            f"requests. If that is intended, name it: REPLACE={GENERATED_SECRET}"
        )
