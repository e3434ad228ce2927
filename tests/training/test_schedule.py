"""Batch order is a pure function of (seed, step), and the mix is the one that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterstilts.settings import MixSettings, TrainSettings
from adapterstilts.training.schedule import (
    checkpoints,
    learning_rate_factor,
    make_schedule,
    mixing,
    moments,
    subset,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 70), st.integers(0, 5))
def test_every_pass_holds_every_example_once(size, batch, seed):  # type: ignore[no-untyped-def]
    schedule = make_schedule([size], TrainSettings(epochs=3, batch=batch), seed)
    drawn = np.concatenate([schedule.examples(step)[1] for step in range(len(schedule))])
    for epoch in range(len(drawn) // size):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_a_step_does_not_depend_on_the_steps_before():  # type: ignore[no-untyped-def]
    one = make_schedule([50, 20], TrainSettings(steps=40, batch=8), 3)
    two = make_schedule([50, 20], TrainSettings(steps=40, batch=8), 3)
    forward = [one.examples(step) for step in range(40)]
    for step in reversed(range(40)):
        share, indices = two.examples(step)
        assert share == forward[step][0] and np.array_equal(indices, forward[step][1])
    other = make_schedule([50, 20], TrainSettings(steps=40, batch=8), 4)
    assert any(not np.array_equal(other.examples(s)[1], forward[s][1]) for s in range(40))


def test_mixing_is_proportional_with_cap_and_temperature():  # type: ignore[no-untyped-def]
    # The weights of Phang et al. 2020 with K = 2^17 (protocol: nine tasks).
    sizes = [1_104_934, 392_702, 363_846, 130_319, 87_599, 39_905, 38_015, 25_588, 9_741]
    weights = mixing(sizes, MixSettings(cap=131_072))
    assert weights == pytest.approx([0.181, 0.181, 0.181, 0.180, 0.121, 0.055, 0.052, 0.035, 0.013], abs=6e-4)
    assert mixing([9, 1], MixSettings(temperature=2)) == pytest.approx([0.75, 0.25])
    assert mixing([9, 1], MixSettings(how="uniform")) == pytest.approx([0.5, 0.5])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=5), st.integers(0, 9))
def test_the_realised_mix_follows_the_intended_one(sizes, seed):  # type: ignore[no-untyped-def]
    schedule = make_schedule(sizes, TrainSettings(steps=200, batch=4), seed)
    counts = np.bincount(schedule.shares, minlength=len(sizes))
    assert np.abs(counts - 200 * mixing(sizes, MixSettings())).max() <= len(sizes)


def test_limits_are_seeded_prefixes():  # type: ignore[no-untyped-def]
    assert np.array_equal(subset(100, 10, 1), subset(100, 50, 1)[:10])
    assert not np.array_equal(subset(100, 10, 1), subset(100, 10, 2))
    assert sorted(subset(100, None, 1)) == list(range(100))


def test_the_learning_rate_is_that_of_transformers():  # type: ignore[no-untyped-def]
    import torch
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, 0, 50)
    for step in range(50):
        assert learning_rate_factor(step, 50, 0.0) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    warm = [learning_rate_factor(step, 50, 0.1) for step in range(50)]
    assert warm[0] > 0 and max(warm) == warm[5] == 1.0 and warm[-1] == pytest.approx(1 / 45)


def test_moments_end_with_the_run():  # type: ignore[no-untyped-def]
    assert moments(100, 4) == {25, 50, 75, 100} and moments(100, 0) == frozenset()
    assert checkpoints(100, 3) == {25, 50, 75} and checkpoints(2, 5) <= {1}
