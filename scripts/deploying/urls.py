"""The parameters of the Function URL, which have to fit the version behind it. The first update of a deployment leaves the URL as it is, and
the second one changes it with the alias: by the parameters `Live…`, as it does with rights (rights.py)."""

import sys

from deploying.features import needs_auth

PARAMETERS = ("InvokeMode", "AuthType", "DistributionArn")
# By the variable MCP_INVOKE_MODE of a version.
MODES = {"buffered": "BUFFERED", "stream": "RESPONSE_STREAM"}


def wanted(values):
    """Returns the URL's parameters for the last version. Empty for one that the template of the stack sets itself."""
    return {f"Live{name}": values.get(name, "") for name in PARAMETERS}


def current(values):
    """Returns the URL's parameters as they are. A stack of an earlier template has the parameters of its last update."""
    own = {name: values.get(name, "") for name in wanted(values)}
    return own if any(own.values()) else wanted(values)


def refuse_canary(values, given):
    """Exits if both versions of a canary would be behind one URL, which only one of them fits."""
    before, after = current(values), wanted(values | given)
    if changed := [name.removeprefix("Live") for name in before if before[name] != after[name]]:
        sys.exit(f"no canary with a change of {', '.join(changed)}: both versions would be behind one URL. Deploy without CANARY=.")


def of_version(version, variables, live_variables, values):
    """Returns the URL's parameters for an earlier version, by its variables. Exits if they do not show who may call it."""
    found = current(values)
    if "InvokeMode" in values:
        found["LiveInvokeMode"] = MODES.get(variables.get("MCP_INVOKE_MODE"), found["LiveInvokeMode"])
    if "AuthType" not in values:
        return found
    kind = authentication(variables)
    if kind == "none" and authentication(live_variables) != kind:
        sys.exit(
            f"version {version} authenticates no caller, in contrast to the live one, so that it might become public by a rollback: deploy it "
            "with the parameters that it had"
        )
    if kind != "none":
        found |= {"LiveAuthType": "AWS_IAM" if kind == "iam" else "NONE", "LiveDistributionArn": ""}
    return found


def authentication(variables):
    """Returns how a version authenticates its callers: by signatures, by tokens, or not at all."""
    if variables.get("MCP_AUTH") == "iam":
        return "iam"
    return "tokens" if needs_auth(variables.items()) else "none"
