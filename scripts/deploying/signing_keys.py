"""The first signing key of an authorization server, in the secret of its stack."""

import json
import subprocess

PREVIOUS = "AWSPREVIOUS"


def make(account, arn):
    """Writes a key into a secret that has the random text of its template alone. Keys are never read here."""
    client = account.client("secretsmanager")
    labels = client.describe_secret(SecretId=arn)["VersionIdsToStages"].values()
    if any(PREVIOUS in own for own in labels):
        return
    client.put_secret_value(SecretId=arn, SecretString=json.dumps({"keys": [{"private_key": private_key(), "signs_from": 0}]}))
    print("the first signing key was written")


def private_key():
    """A new RSA key as PEM. It is on this machine only in memory."""
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout
