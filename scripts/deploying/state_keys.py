"""Rotation of a state key: a new version of its secret (docs/operations.md)."""

import base64
import binascii
import datetime
import secrets
import sys

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
KEY_BYTES = 32
MAX_KEYS = 3
# Length of the random text of a template, and what makes a key of it.
GENERATED_LENGTH = 42
GENERATED_END = "A="
# A version seals after this time. With an earlier rotation, the version before would end without having been the first key.
SEALS_AFTER = datetime.timedelta(minutes=15)


def secret_of(stack):
    """The id of the secret with the state key of a stack. Exits if it has none."""
    chosen = stack.values().get("StateKey") if stack.is_made else None
    if not chosen:
        sys.exit(f"there is no stack {stack.name} with a state key")
    return f"{stack.name}/state-key" if chosen == "generated" else chosen


def rotated(client, secret):
    """Returns the text of the next version: a new key, the present one, and the index key, which stays. Exits if the present version is
    too young, or is not a key."""
    current = client.get_secret_value(SecretId=secret, VersionStage=CURRENT)
    age = datetime.datetime.now(datetime.timezone.utc) - current["CreatedDate"]
    if age < SEALS_AFTER:
        left = -((age - SEALS_AFTER) // datetime.timedelta(minutes=1))
        sys.exit(f"the latest version of {secret} is younger than 15 minutes, and does not seal yet: run this again in {left} minutes")
    if not (parts := parsed(current.get("SecretString", ""))):
        sys.exit(f"the current version of {secret} is not a state key")
    keys, index = parts
    if not index:
        # As the function finds it.
        older, index = previous(client, secret) or ([], None)
        index = index or [*keys, *older][-1]
    new = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return f"{new},{keys[0]};{index}"


def write(client, secret, text):
    client.put_secret_value(SecretId=secret, SecretString=text)


def previous(client, secret):
    """The parts of the previous version. None if there is none, or it is not a key."""
    try:
        found = client.get_secret_value(SecretId=secret, VersionStage=PREVIOUS)
    except client.exceptions.ResourceNotFoundException:
        return None
    return parsed(found.get("SecretString", ""))


def parsed(text):
    """Returns the keys of a version, the newest first, and its index key or None. None for a text that is not a state key."""
    joined, *index = text.strip().split(";")
    keys, index = [normalized(own) for own in joined.split(",")], [normalized(own) for own in index]
    if not all([*keys, *index]) or len(keys) > MAX_KEYS or len(index) > 1:
        return None
    return keys, index[0] if index else None


def normalized(key):
    """Returns a key in Base64, or None."""
    key = key.strip()
    if len(key) == GENERATED_LENGTH and key.isascii() and key.isalnum():
        key += GENERATED_END
    try:
        return key if len(base64.b64decode(key, validate=True)) == KEY_BYTES else None
    except (binascii.Error, ValueError):
        return None
