"""Decisions are those of a second, plain implementation, over 100,000 generated cases."""

from __future__ import annotations

from collections import Counter

import pytest

from policy.generated import cases
from predastore.policy import Why, decide, is_public
from reference import policy_model

CHUNKS, SETS, EACH = 20, 250, 20


@pytest.mark.parametrize("seed", range(CHUNKS))
def test_decisions_are_those_of_the_plain_model(seed: int) -> None:
    seen: Counter[Why] = Counter()
    for asked, values, compiled, plain in cases(seed, SETS, EACH):
        decision = decide(asked, compiled)
        why, statements = policy_model.decide(asked, values, plain)
        shown = (seed, asked, values, plain, decision)
        assert decision.why.value == why, shown
        if decision.statement:
            assert (decision.document, decision.statement) in statements, shown
        seen[decision.why] += 1
    assert min(seen.values()) > SETS * EACH / 50, "each outcome is there often"
    assert len(seen) == len(Why)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_public_is_what_the_plain_model_says(seed: int) -> None:
    seen: Counter[bool] = Counter()
    for _, _, compiled, plain in cases(1000 + seed, 300, 1):
        if compiled.resource is not None and plain.resource is not None:
            assert is_public(compiled.resource) == policy_model.is_public(plain.resource[1])
            seen[is_public(compiled.resource)] += 1
    assert min(seen[True], seen[False]) > 10
