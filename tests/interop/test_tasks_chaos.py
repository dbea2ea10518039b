"""Tasks of five steps, while environments are killed and Postgres is restarted; `make soak` runs 10,000 of them."""

import chaos_tasks
import tools
from conftest import once


@once
def build_steps():
    tools.build(chaos_tasks.BINARY, "function-url-emulator")


def test_every_task_ends_and_no_step_has_two_effects_while_everything_breaks():
    build_steps()

    # A run that is killed late is repeated after half a minute.
    figures = chaos_tasks.run(tasks=200, environments=20, open_tasks=60, seed=1, kills_until=0.4)

    assert (figures["ended"], figures["lost"], figures["steps stored twice"]) == (200, 0, 0), figures
    assert figures["attempts of other callers that were rejected"] == 200
    assert figures["environments killed"] > 0 and figures["delivered twice"] > 0, figures
    assert figures["restarts of Postgres"] == 3
    assert figures["environments that loaded the state key again"] > 0
