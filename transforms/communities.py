"""Splits that share nobody: communities of the graph of who is seen with whom (contract, section 3)."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import networkx as nx

from transforms import digests

TRAIN, VAL = "train", "val"


def communities(people: Sequence[Sequence[str]], largest: int) -> list[list[str]]:
    """Groups of names that are seen together, each sorted, from the names in each sample.

    They are the connected components of who is seen with whom; one of more than `largest` samples is divided by
    Louvain's method (Blondel et al. 2008), whose seed and order of nodes are fixed."""
    graph = nx.Graph()
    graph.add_nodes_from(sorted({name for sample in people for name in sample}))
    weights = Counter(pair for sample in people for pair in combinations(sorted(set(sample)), 2))
    graph.add_weighted_edges_from((one, other, weight) for (one, other), weight in sorted(weights.items()))
    component_of = {name: number for number, component in enumerate(nx.connected_components(graph))
                    for name in component}
    samples = Counter(component_of[sample[0]] for sample in people if sample)
    found = []
    for number, component in enumerate(nx.connected_components(graph)):
        if samples[number] > largest:
            part = nx.Graph()
            part.add_nodes_from(sorted(component))
            part.add_weighted_edges_from(sorted((min(a, b), max(a, b), w) for a, b, w in
                                                graph.edges(component, data="weight")))
            found += [sorted(names) for names in nx.community.louvain_communities(part, seed=0)]
        else:
            found.append(sorted(component))
    return sorted(found)


def assign_splits(people: Sequence[Sequence[str]], val_fraction: float, seed: int,
                  earlier: Mapping[str, str]) -> dict[str, str]:
    """Name -> split for everybody in the samples, and all of `earlier`, whose splits are kept.

    Communities go to `val` in the order of a digest, each that still fits, until `val_fraction` of the samples are
    there; where none fits, the smallest goes, unless that is most of the samples. A community with a name that was
    placed before follows it (the most of its names, `train` on a tie)."""
    wanted = val_fraction * len(people)
    groups = communities(people, max(1, int(wanted)) if val_fraction else len(people))
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    touched = [{group_of[name] for name in sample} for sample in people]
    touching: dict[int, list[set[int]]] = {number: [] for number in range(len(groups))}
    for its in touched:
        for number in its:
            touching[number].append(its)
    splits: dict[str, str] = dict(earlier)
    in_val: set[int] = set()
    fresh = []
    for number, group in enumerate(groups):
        known = Counter(earlier[name] for name in group if name in earlier)
        if not known:
            fresh.append(number)
            continue
        split = min(known, key=lambda name: (-known[name], name != TRAIN, name))
        splits.update({name: split for name in group if name not in earlier})
        if split == VAL:
            in_val.add(number)
    placed = sum(its <= in_val for its in touched)
    for number in sorted(fresh, key=lambda number: digests.of("split", seed, groups[number][0])):
        more = sum(its <= in_val | {number} for its in touching[number])  # samples that it would bring whole
        fits = more > 0 and placed + more <= wanted
        if fits:
            in_val.add(number)
            placed += more
        splits.update(dict.fromkeys(groups[number], VAL if fits else TRAIN))
    if not placed and wanted >= 1 and fresh:  # none fits: the least that is something, if it leaves most to train
        more, number = min((len(touching[number]), number) for number in fresh if touching[number])
        if 2 * more <= len(people):
            splits.update(dict.fromkeys(groups[number], VAL))
    return splits


def split_of(names: Sequence[str], splits: Mapping[str, str]) -> str | None:
    """The one split that all of a sample's people are in; None where it straddles."""
    found = {splits[name] for name in names}
    return found.pop() if len(found) == 1 else None
