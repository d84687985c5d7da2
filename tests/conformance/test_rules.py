"""Every rule of OTP that we keep is held by a test or by a recorded scenario, or says why it cannot hold."""

from __future__ import annotations

import pytest
from conformance.rules import RULE, RULES, SEMANTICS, excused, named_by_all_tests, named_by_scenarios, named_by_tests

BY_TESTS = named_by_all_tests()
BY_SCENARIOS = named_by_scenarios()
EXCUSED = dict(excused(SEMANTICS.read_text("utf-8")))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_held(rule: str) -> None:
    """A test names it, a replayed scenario shows it, or the table of runtime/SEMANTICS.md has its reason."""
    held = rule in BY_SCENARIOS or any(rule in found for found in BY_TESTS.values())
    assert held or EXCUSED.get(rule), f"nothing holds {rule}"


def test_nothing_names_a_rule_that_does_not_exist() -> None:
    """A wrong number in a docstring or a scenario would hold nothing."""
    unknown = {f"{path}: {rule}" for path, found in BY_TESTS.items() for rule in found if rule not in RULES}
    assert unknown == set()
    assert set(RULES) >= BY_SCENARIOS
    assert set(EXCUSED) <= set(RULES)


def test_the_scan_sees_docstrings_of_tests_only() -> None:
    """A rule in a comment, in a helper or in a text holds nothing."""
    source = (
        "def test_a():\n    '''SUP-01, and GS-12: x.'''\n"
        "async def test_b():\n    '''LNK-02.'''\n    # SUP-02\n    return 'SUP-03'\n"
        "def helper():\n    '''SUP-04'''\n"
    )
    assert named_by_tests(source) == {"SUP-01", "GS-12", "LNK-02"}


def test_a_rule_without_a_reason_is_not_excused() -> None:
    """The table needs both cells, and ends with its section."""
    table = "\n## Rules that cannot hold here\n\n| rule | why |\n| --- | --- |\n| GS-08 | no throw |\n| GS-09 |\n"
    text = f"{table}\n## Next\n| GS-10 | x |\n"
    assert dict(excused(text)) == {"GS-08": "no throw", "GS-09": ""}
    assert len(set(RULES)) == len(RULES) == 185
    assert all(RULE.fullmatch(rule) for rule in RULES)
