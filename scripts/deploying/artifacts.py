"""The zip of a function, and the bucket that CloudFormation and Lambda read from."""

import base64
import hashlib
import sys

from botocore.exceptions import ClientError

import build
import templates
from deploying import features as feature_sets

# The architecture of all templates.
ARCHITECTURE = "arm64"


class Archive:
    """A zip in memory, with the features that it was built with. These bytes are uploaded, even if the file changes later."""

    def __init__(self, content, features):
        self.content, self.features = content, features

    @property
    def digest(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def lambda_digest(self):
        """The digest in Lambda's encoding (CodeSha256)."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()


def archive_of(arguments, features, artifacts=None):
    """Returns the zip to deploy: that of --digest, that of --lambda-dir, or a new build."""
    function, digest = templates.function_of(arguments.subject), getattr(arguments, "digest", None)
    if digest and not arguments.lambda_dir:
        return artifacts.find(function, digest, features)
    if not arguments.lambda_dir:
        build.prepare()
        return Archive(build.build(ARCHITECTURE, function, features).read_bytes(), features)
    content, fault = build.recorded(arguments.lambda_dir, ARCHITECTURE, function, features)
    if fault:
        others = [feature for feature in features if feature != build.AUTH]
        named = f" FEATURES={','.join(others)}" if others else ""
        what = f"the feature{'s' if features[1:] else ''} {', '.join(features)}" if features else "no features"
        dropped = f"; FEATURES={build.NO_FEATURES} deploys without {', '.join(others)}" if others and not arguments.features else ""
        sys.exit(
            f"{function} cannot be deployed with {what}: {fault}. Build such a zip with "
            f"`make build FUNCTION={function}{named}`{dropped}"
        )
    archive = Archive(content, features)
    if digest and archive.digest != digest:
        sys.exit(f"the zip of {function} in {arguments.lambda_dir} has the SHA-256 {archive.digest}, and not {digest}")
    return archive


class Artifacts:
    """The bucket with code and templates. Objects are named by their digest, and are kept for a promotion to another stage."""

    def __init__(self, account):
        self.account = account
        self.bucket = f"mcp-on-lambda-{account.id}-{account.region}"
        self.s3 = account.client("s3")

    def exists(self):
        try:
            # Bucket names are global: do not put code into a bucket of another account.
            self.s3.head_bucket(Bucket=self.bucket, ExpectedBucketOwner=self.account.id)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
                return False
            raise
        return True

    def make(self):
        if not self.exists():
            elsewhere = {} if self.account.region == "us-east-1" else {
                "CreateBucketConfiguration": {"LocationConstraint": self.account.region}
            }
            self.s3.create_bucket(Bucket=self.bucket, **elsewhere)
        closed = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
        self.s3.put_public_access_block(
            Bucket=self.bucket, ExpectedBucketOwner=self.account.id,
            PublicAccessBlockConfiguration=dict.fromkeys(closed, True),
        )

    def find(self, function, digest, features):
        """Returns the zip with a digest that an earlier deployment to this account uploaded. It must have the given features."""
        key = code_key(function, features, digest)
        try:
            content = self.s3.get_object(Bucket=self.bucket, Key=key, ExpectedBucketOwner=self.account.id)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchKey", "NoSuchBucket"):
                raise
            sys.exit(
                f"the bucket {self.bucket} has no zip of {function} with the SHA-256 {digest} and the features "
                f"{', '.join(features) or build.NO_FEATURES} that the stack needs"
            )
        archive = Archive(content, features)
        if archive.digest != digest:
            sys.exit(f"{key} in {self.bucket} has the SHA-256 {archive.digest}: it was modified after the upload, do not deploy it")
        return archive

    def put_code(self, function, archive):
        key = code_key(function, archive.features, archive.digest)
        self.put(key, archive.content)
        return key

    def put_templates(self, subject, stack):
        """Uploads the template of a stack and all templates that may be nested in it. Returns their common prefix, with the name of
        the stack: a role that deploys another stack may not write there."""
        contents = {f"{name}.yaml": text.encode() for name, text in templates.with_nested(subject).items()}
        prefix = f"templates/{stack}/{hashlib.sha256(b''.join(contents[name] for name in sorted(contents))).hexdigest()}"
        for name, content in contents.items():
            self.put(f"{prefix}/{name}", content)
        return prefix

    def put(self, key, content):
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content, ExpectedBucketOwner=self.account.id)

    def url(self, key):
        return f"https://{self.bucket}.s3.{self.account.region}.{self.account.domain}/{key}"


def code_key(function, features, digest):
    """Returns the key of a zip. It contains the features, from which a later deployment reads them."""
    key = f"code/{function}/{'.'.join(features) or build.NO_FEATURES}/{digest}.zip"
    assert feature_sets.CODE_KEY.fullmatch(key)
    return key
