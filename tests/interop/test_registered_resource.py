"""Stacks that register their functions at an authorization server: the parameter in Parameter Store, in an emulated account."""

import json
import re

import aws_versions
import boto3
import new
import pytest
import templates
from aws_account import account, loaded, register
from cfnlint.decode import cfn_yaml
from conftest import PROJECT
from deploying import migration, stack
from small_stacks import archive, run
from test_dsql_stack import configuration, stack_values

register()
SERVER = "https://abcdef.lambda-url.us-east-1.on.aws"
PATH = "/authorization-server/resources"
CLAIMS = [{"claim": "cognito:groups", "value": "writers", "scopes": ["events:write"]}]


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Deploys a stack, and expects success unless `code` says otherwise. Returns its outputs."""
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(migration, "POLL_SECONDS", 0.01)
    zips = tmp_path / "zips"
    for function, features in (("event-logger", ()), ("greeter", ()), ("greeter", ("auth",))):
        archive(zips, function.encode(), features, function)

    def up(name, code=0, **parameters):
        given = [word for own, value in parameters.items() for word in ("--parameter", f"{own}={value}")]
        ended = run("up", name, "--lambda-dir", zips, "--no-doctor", "--yes", *given)
        assert ended.code == code, ended.text
        return dict(re.findall(r"^(\w+): (.*)$", ended.stdout, re.MULTILINE))

    with account():
        yield up


def registered():
    """The resources that an authorization server reads, by the names of their parameters."""
    found = boto3.client("ssm").get_parameters_by_path(Path=PATH)["Parameters"]
    return {own["Name"]: json.loads(own["Value"]) for own in found}


def scopes_of(text):
    """The scopes that a stack registers."""
    template = cfn_yaml.loads(templates.completed(text, templates.FUNCTION.read_text(), templates.PARTS))
    return json.loads(template["Resources"]["Function"]["Properties"]["Parameters"]["ResourceScopes"])


def scopes_in(path):
    """The scopes that a function requires."""
    return {*re.findall(r'const (?:READ|WRITE): &str = "(.*)";', (PROJECT / path).read_text())}


def test_a_function_is_registered_with_the_url_that_clients_call(deploy):
    told = deploy("event-logger-dsql", AuthorizationServer=SERVER, ResourceEveryone='["events:read"]', ResourceClaims=json.dumps(CLAIMS))

    assert registered() == {f"{PATH}/event-logger-dsql": {
        "url": told["Url"], "name": "event-logger-dsql", "scopes": scopes_of(templates.path_of("event-logger-dsql").read_text()),
        "everyone": ["events:read"], "claims": CLAIMS,
    }}
    variables = configuration("event-logger-dsql")[0]["Environment"]["Variables"]
    # The audience is the URL of the server.
    assert {name: variables[name] for name in ("OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_ISSUERS", "MCP_AUTH")} == {
        "OIDC_ISSUER": SERVER, "OIDC_AUDIENCE": "", "OIDC_ISSUERS": "", "MCP_AUTH": "required",
    }

    told = deploy("event-logger-dsql", PublicUrl="https://mcp.example.com/events")
    assert told["Url"] == "https://mcp.example.com/events/mcp"
    assert [own["url"] for own in registered().values()] == [told["Url"]]


def test_what_is_registered_is_removed_with_its_stack_and_no_other(deploy):
    deploy("event-logger-dsql", AuthorizationServer=SERVER, DatabaseDeletionProtection="false")
    deploy("greeter", AuthorizationServer=SERVER, PublicUrl="https://greeter.example.com")
    assert registered().keys() == {f"{PATH}/event-logger-dsql", f"{PATH}/greeter"}
    # It verifies tokens.
    assert "/auth/" in stack_values("greeter")["CodeKey"]

    assert run("down", "event-logger-dsql", "--yes").code == 0
    assert registered() == {f"{PATH}/greeter": {
        "url": "https://greeter.example.com/mcp", "name": "greeter", "scopes": [], "everyone": [], "claims": [],
    }}

    # Another issuer, or none.
    deploy("greeter", AuthorizationServer="", Issuer="https://id.example.com")
    assert registered() == {}
    assert configuration("greeter")[0]["Environment"]["Variables"]["OIDC_ISSUER"] == "https://id.example.com"


def test_a_function_without_an_authorization_server_is_not_registered(deploy):
    deploy("greeter")

    assert boto3.client("ssm").describe_parameters()["Parameters"] == []


def test_a_function_without_a_live_version_is_not_registered(deploy):
    aws_versions.answering[0] = lambda *_: RuntimeError("could not start")
    deploy("greeter", code=1, AuthorizationServer=SERVER)

    assert registered() == {}


def test_a_parameter_has_the_members_that_the_authorization_server_reads():
    source = (PROJECT / "crates/mcp-authorization-server/src/resource.rs").read_text()
    fields = {kind: {*re.findall(r"^    pub (\w+):", body, re.MULTILINE)} for kind, body in re.findall(r"^pub struct (\w+) \{\n(.*?)^\}", source, re.MULTILINE | re.DOTALL)}
    value, _ = loaded("function")["Resources"]["RegisteredResource"]["Properties"]["Value"]["Fn::Sub"]

    assert {*re.findall(r'"(\w+)":', value)} == fields["Resource"]
    for own in scopes_of(templates.path_of("event-logger").read_text()):
        assert own.keys() == fields["Scope"] and own["translations"].keys() == {"pt", "es"}


def test_the_longest_values_fit_into_a_parameter():
    shared = loaded("function")["Parameters"]
    value, _ = loaded("function")["Resources"]["RegisteredResource"]["Properties"]["Value"]["Fn::Sub"]
    named = re.findall(r"\$\{(\w+)\}", value)

    assert {*named} == {"Url", "Name", "ResourceScopes", "ResourceEveryone", "ResourceClaims"}
    longest = {"Url": shared["PublicUrl"]["MaxLength"] + len("/mcp"), "Name": 40}
    # The limit of a standard parameter, which costs nothing.
    assert len(re.sub(r"\$\{\w+\}", "", value)) + sum(longest.get(own) or shared[own]["MaxLength"] for own in named) <= 4_096


@pytest.mark.parametrize(
    ("parameter", "valid", "invalid"),
    [
        ("AuthorizationServer", ["", SERVER], ["cognito", "http://id.example.com", f"{SERVER}?a", f"{SERVER} a"]),
        ("ResourceScopes", ["[]", '[{"name":"a","text":"Read notes"}]'], ["", "{}", '["a"]', '[{"name":\n"a"}]']),
        ("ResourceEveryone", ["[]", '["a"]', '["a:b","c"]'], ["", "a", '["a" ,"b"]', '["a",]', '["a"],"claims":["b"]', '["\\"]']),
        ("ResourceClaims", ["[]", json.dumps(CLAIMS)], ["", "{}", '["a"]', "[{}\n]"]),
    ],
)
def test_what_is_no_json_array_is_rejected_before_a_stack_changes(parameter, valid, invalid):
    pattern = loaded("function")["Parameters"][parameter]["AllowedPattern"]

    assert [own for own in valid if not re.fullmatch(pattern, own)] == []
    assert [own for own in invalid if re.fullmatch(pattern, own)] == []


def test_the_scopes_of_a_stack_are_those_of_its_function():
    for name in ("event-logger", "event-logger-dsql"):
        scopes = scopes_of(templates.path_of(name).read_text())
        assert {own["name"] for own in scopes} == scopes_in("functions/event-logger/src/lib.rs")

    made = scopes_of(new.stack_of("weather", "stateful"))
    assert {own["name"] for own in made} == scopes_in("templates/stateful/src/lib.rs")
    assert "event" not in json.dumps(made)
