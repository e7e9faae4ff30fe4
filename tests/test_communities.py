"""Splits that share nobody, and that stay."""
from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.communities import TRAIN, VAL, assign_splits, communities, split_of

samples = st.lists(st.lists(st.sampled_from([f"p{n}" for n in range(12)]), min_size=2, max_size=4, unique=True), max_size=30)


def test_people_never_seen_together_are_apart():
    assert communities([["a", "b"], ["b", "c"], ["x", "y"]], 10) == [["a", "b", "c"], ["x", "y"]]
    assert communities([], 1) == []


def test_a_component_too_large_for_a_split_is_divided_where_it_is_thin():
    clique = [[f"{side}{n}", f"{side}{m}"] for side in "ab" for n in range(5) for m in range(n)]
    assert communities([*clique, ["a0", "b0"]], 5) == [[f"a{n}" for n in range(5)], [f"b{n}" for n in range(5)]]


@given(samples, st.floats(0, 0.6))
def test_no_sample_that_stays_shares_anybody_with_another_split(people, val_fraction):
    splits = assign_splits(people, val_fraction, 0, {})
    kept = [(names, split_of(names, splits)) for names in people]
    in_split = {split: {name for names, its in kept if its == split for name in names} for split in (TRAIN, VAL)}
    assert not in_split[TRAIN] & in_split[VAL]
    in_val = [names for names, split in kept if split == VAL]
    if len(in_val) > val_fraction * len(people):  # none fitted: the smallest community, and not most of the samples
        whole = [set(group) for group in communities(people, max(1, int(val_fraction * len(people))))]
        assert 2 * len(in_val) <= len(people) and any({name for names in in_val for name in names} <= group
                                                      for group in whole)
    assert assign_splits(people, val_fraction, 0, {}) == splits


@given(samples, samples)
def test_nobody_changes_the_split_they_once_got(before, more):
    first = assign_splits(before, 0.3, 0, {})
    second = assign_splits(before + more, 0.3, 0, first)
    assert all(second[name] == split for name, split in first.items())


def test_where_no_community_fits_the_smallest_is_taken_and_never_most_of_all():
    people = [[f"{n}-a", f"{n}-b"] for n in range(4) for _ in range(20 + n)]
    splits = assign_splits(people, 0.05, 0, {})
    assert [split_of(names, splits) for names in people].count(VAL) == 20
    alone = [["a", "b"]] * 30
    assert set(assign_splits(alone, 0.1, 0, {}).values()) == {TRAIN}


def test_a_part_of_the_samples_is_for_validation():
    people = [[f"{n}-a", f"{n}-b"] for n in range(100)]
    splits = assign_splits(people, 0.2, 0, {})
    assert sum(split_of(names, splits) == VAL for names in people) == 20
    other = assign_splits(people, 0.2, 1, {})
    assert other != splits


def test_without_a_fraction_nobody_new_goes_to_val_and_few_samples_of_anybody_straddle():
    """What composites ask for: they join people at random."""
    draw = np.random.default_rng(0)
    people = [f"person {n}" for n in range(200)]
    scenes = [draw.choice(people, 4, replace=False).tolist() for _ in range(400)]
    earlier = {name: "val" if n < 5 else "train" for n, name in enumerate(people[:100])}
    splits = assign_splits(scenes, 0.0, 0, earlier)
    assert {name: splits[name] for name in earlier} == earlier
    assert {splits[name] for name in people[100:]} == {"train"}
    assert sum(split_of(scene, splits) is None for scene in scenes) < 0.12 * len(scenes)  # 1 - (1 - 5 / 200) ** 4 is 0.096
