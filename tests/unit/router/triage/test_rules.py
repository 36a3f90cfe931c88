"""Rules, and the packaged ones above all."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from router.settings import load_settings
from router.triage.decision import Outcome, Question
from router.triage.rules import Rule, When
from router.triage.triage import Triage, TriageSettings


async def decide(prompt: str, **fields: Any) -> str:
    decision = await Triage(load_settings(None).triage, None).decide(Question(prompt, **fields))
    return f"{decision.outcome.value} {decision.decided_by}"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What is 2+2?", "direct rule:question"),
        ("What is 17*23?", "direct rule:question"),
        ("how many orders has this account?", "direct rule:question"),
        ("Explain monads", "direct rule:question"),
        ("Create hello.py that prints hello world, then run it", "agent rule:work"),
        ("Can you fix the failing test?", "agent rule:work"),
        ("Create a hello world app", "agent rule:work"),
        ("Do the thing we spoke of", "direct rule:question"),
        ("Carry on", "agent default"),
        ("What " + "is that " * 100 + "?", "agent default"),
    ],
)
async def test_the_packaged_rules_tell_questions_from_work(prompt, expected):
    assert await decide(prompt) == expected


async def test_what_goes_on_in_a_session_goes_to_its_agent():
    assert await decide("What is 2+2?", session=True) == "agent rule:goes-on"


async def test_tools_asked_for_by_name_take_an_agent():
    assert await decide("What is 2+2?", tools=["Bash"]) == "agent rule:tools"


async def test_an_option_that_only_agents_have_takes_an_agent():
    assert await decide("What is 2+2?", agent_only="output_schema") == "agent option"


@pytest.mark.parametrize(
    ("when", "question", "holds"),
    [
        ({}, Question("x"), True),
        ({"min_length": 2}, Question("x"), False),
        ({"max_length": 1}, Question("xy"), False),
        ({"pattern": "DROP"}, Question("please drop it"), True),
        ({"pattern": "^x$"}, Question("xy"), False),
        ({"accounts": ["team-*"]}, Question("x", account="Team-1"), True),
        ({"accounts": ["team-*"]}, Question("x", account="other"), False),
        ({"accounts": ["team-*"]}, Question("x"), False),
        ({"tools": ["Web*"]}, Question("x", tools=["Read", "WebFetch"]), True),
        ({"tools": ["*"]}, Question("x"), False),
        ({"session": False}, Question("x", session=True), False),
        ({"context": ["orders"]}, Question("x", context=frozenset({"orders"})), True),
        ({"context": ["orders"]}, Question("x"), False),
        ({"files": True}, Question("x"), False),
        ({"files": False}, Question("x"), True),
    ],
)
async def test_a_rule_holds_when_all_its_conditions_do(when, question, holds):
    assert await When(**when).holds(question) is holds


async def test_the_caller_may_force_either_way_but_not_past_a_policy():
    rules = (
        Rule(name="no-secrets", when=When(pattern="password"), outcome=Outcome.REFUSE, reason="No."),
        Rule(name="all", outcome=Outcome.DIRECT),
    )
    triage = Triage(TriageSettings(rules=rules), None)
    forced = await triage.decide(Question("hi"), Outcome.AGENT)
    assert (forced.outcome, forced.decided_by) == (Outcome.AGENT, "caller")
    refused = await triage.decide(Question("the password?"), Outcome.AGENT)
    assert (refused.outcome, refused.decided_by, refused.reason) == (Outcome.REFUSE, "rule:no-secrets", "No.")


async def test_a_workspace_is_only_looked_into_for_a_rule_that_wants_to_know():
    looked = []

    async def has_files() -> bool:
        looked.append(True)
        return True

    question = Question("hi", has_files=has_files)
    assert not await When(files=True, pattern="other").holds(question)
    assert looked == []
    assert await When(files=True).holds(question)
    assert looked == [True]


def test_a_pattern_that_is_none_is_a_mistake_of_the_configuration():
    with pytest.raises(ValidationError, match="no regular expression"):
        When(pattern="(")
