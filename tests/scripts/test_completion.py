"""What a stack's template takes over from infra/function.yaml."""

import pytest
from completion import completed

FUNCTION = """\
Parameters:
  # What is deployed.
  CodeKey:
    Description: Key of the zip.
    Type: String
  # What it is. The stack sets these.
  Memory: { Type: Number, Default: 128 }
  Key:
    Type: String
    # No pattern.
    AllowedPattern: ^[a-z:]*$

  # How it is called.
  Issuer:
    Type: String
    Default: ""

Conditions:
  IsLive: !Not [!Equals [!Ref CodeKey, ""]]
  Other: !Equals [!Ref Issuer, ""]

Resources:
  Issuer: { Type: Own }

Outputs:
  Url:
    Condition: IsLive
    Description: The URL
    Value: !If
      - IsLive
      - !Ref Url
  Name:
    Value: !Ref Name
"""
STACK = """\
# A stack.
Parameters:
{declared}  # + the parameters of infra/function.yaml

Conditions:
  # + the conditions of infra/function.yaml

Resources:
  Function:
    Properties:
      Parameters:
{set}        # + the parameters of infra/function.yaml
  Other:
    Properties:
      Parameters:
        Issuer: x

Outputs:
  # + the outputs of infra/function.yaml
  Own:
    Value: 1
"""
CODE_KEY = "  CodeKey:\n    Description: Key of the zip.\n    Type: String\n"
ISSUER = '  Issuer:\n    Type: String\n    Default: ""\n'


def sections(text):
    """The lines of the parameters, and those that are passed on."""
    declared = text.partition("Parameters:\n")[2].partition("\nConditions:")[0]
    return declared, text.partition("      Parameters:\n")[2].partition("  Other:")[0]


def test_a_stack_declares_and_passes_on_what_it_does_not_set():
    text = completed(STACK.format(declared="", set="        Memory: 256\n"), FUNCTION)

    assert sections(text) == (
        CODE_KEY + ISSUER, "        Memory: 256\n        CodeKey: !Ref CodeKey\n        Issuer: !Ref Issuer\n",
    )
    assert 'Conditions:\n  IsLive: !Not [!Equals [!Ref CodeKey, ""]]\n\nResources:' in text
    assert text.endswith(
        "Outputs:\n"
        "  Url:\n    Condition: IsLive\n    Description: The URL\n    Value: !GetAtt Function.Outputs.Url\n"
        "  Name:\n    Value: !GetAtt Function.Outputs.Name\n"
        "  Own:\n    Value: 1\n"
    )
    assert completed(text, FUNCTION) == text


def test_a_parameter_that_the_stack_sets_is_no_parameter_of_the_stack():
    text = completed(STACK.format(declared="", set="        # Constant.\n        Issuer: !If\n          - a\n          - b\n"), FUNCTION)

    declared, passed = sections(text)
    assert declared == CODE_KEY
    assert passed.count("Issuer") == 1 and "CodeKey: !Ref CodeKey" in passed


def test_a_parameter_that_the_stack_declares_is_passed_on_and_stays_its_own():
    own = "  Key: { Type: String, Default: generated }\n  Issuer: { Type: String, Default: cognito }\n"

    declared, passed = sections(completed(STACK.format(declared=own, set=""), FUNCTION))

    assert declared == own + CODE_KEY
    assert passed == "".join(f"        {name}: !Ref {name}\n" for name in ("CodeKey", "Key", "Issuer"))


def test_a_template_without_these_lines_stays_as_it_is():
    text = "Parameters:\n  Own: { Type: String }  # + 1\n\nResources: {}"

    assert completed(text, FUNCTION) == text


@pytest.mark.parametrize("line", ["# + the parameter of infra/function.yaml", "# + the rules of infra/function.yaml", "# +"])
def test_a_line_that_names_nothing_is_an_error(line):
    with pytest.raises(SystemExit, match="is no part of infra/function.yaml"):
        completed(f"Parameters:\n  {line}\n", FUNCTION)


# Parts, in which an own line and a comment of each name stay together.
ISSUER_PART = """\
# A part.

Parameters:
  # The issuer.
  Issuer: { Type: String }

Rules:
  IssuerIsSet: {}

Resources:
  Pool: { Type: Own }

  Function:
    Properties:
      Parameters:
        # Constant.
        Issuer: !If
          - a
          - b
"""
STATE_PART = """\
Parameters:
  # + the parameters of infra/parts/issuer.yaml
  # The cluster.
  Cluster: { Type: String }
  # + the parameters of infra/function.yaml

Rules:
  # + the rules of infra/parts/issuer.yaml

Resources:
  # + the resources of infra/parts/issuer.yaml
  Database: { Type: Own }
  Function:
    Properties:
      Parameters:
        # + the parameters of infra/parts/issuer.yaml
        Variables: |
          CLUSTER=${Cluster}
        # + the parameters of infra/function.yaml
"""
WITH_STATE = """\
Parameters:
{declared}  # + the parameters of infra/parts/state.yaml

Rules:
  # + the rules of infra/parts/state.yaml

Resources:
  # + the resources of infra/parts/state.yaml

  Function:
    Properties:
      Parameters:
{set}        # + the parameters of infra/parts/state.yaml
"""


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "issuer.yaml").write_text(ISSUER_PART)
    (tmp_path / "state.yaml").write_text(STATE_PART)
    return tmp_path


def test_a_part_stands_in_its_place_with_the_parts_that_it_has_itself(parts):
    assert completed(WITH_STATE.format(declared="", set=""), FUNCTION, parts) == (
        "Parameters:\n  # The issuer.\n  Issuer: { Type: String }\n  # The cluster.\n  Cluster: { Type: String }\n" + CODE_KEY
        + "\nRules:\n  IssuerIsSet: {}\n"
        "\nResources:\n  Pool: { Type: Own }\n  Database: { Type: Own }\n\n"
        "  Function:\n    Properties:\n      Parameters:\n        # Constant.\n        Issuer: !If\n          - a\n          - b\n"
        "        Variables: |\n          CLUSTER=${Cluster}\n        CodeKey: !Ref CodeKey\n"
    )


def test_own_lines_of_a_stack_win_over_those_of_a_part(parts):
    own = {"declared": "  Cluster: { Type: String, Default: own }\n", "set": "        Variables: own\n        Issuer: own\n"}

    text = completed(WITH_STATE.format(**own), FUNCTION, parts)

    assert text.count("Cluster:") == 1 and own["declared"] in text and "# The cluster." not in text
    assert "CLUSTER=" not in text and "!If" not in text and "# Constant." not in text and own["set"] in text


def test_a_part_that_does_not_exist_is_an_error(parts):
    with pytest.raises(SystemExit, match=r"there is no .*other\.yaml"):
        completed("Rules:\n  # + the rules of infra/parts/other.yaml\n", FUNCTION, parts)
