"""Linkage against the plain definition and scipy's, and what must hold for any faces."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from schemas.embedder import Bounds, Embedder
from tests.homes import numbered, told
from transforms import adoption, cells, digests, face_models, levels, similarity, stars
from transforms.cells import Cells
from transforms.cluster import clustered, graph_of
from transforms.graph import Graph, all_kinds, cluster_faces, letters
from transforms.homes import Step, run_here
from transforms.known import Known
from transforms.mates import exclusive_images, same_person_twice
from transforms.rows import Rows
from transforms.scoring import bcubed
from transforms.similarity import UNIT, Edges, on_grid, strong_edges
from transforms.space import Space
from transforms.stars import Merging

BOUNDS = Bounds(same_person=0.5, strict_same_person=0.8, near_copy=0.95, outlier=0.4, cohesion=0.4, margin=0.2, quality=0.3,
                crowding_weight=1.0, crowding_growth=0.0, edge=0.22, normalized_edge=0.22, join=0.12, adopt=0.15,
                small_join=0.6, spill=16,
                origin="made up for tests")


def crowd(people: int, each: int, dimensions: int, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, list[str]]:
    """Unit vectors float32 [people * each, dimensions], and whose they are; a person's have a cosine of about
    1 / (1 + noise^2)."""
    random = np.random.default_rng([seed, people, each])
    middles = random.standard_normal((people, dimensions)) / np.sqrt(dimensions)
    vectors = np.repeat(middles, each, axis=0)
    vectors = vectors + noise * random.standard_normal(vectors.shape) / np.sqrt(dimensions)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"person-{person}" for person in range(people) for _ in range(each)]


def graph(embeddings: np.ndarray, images: np.ndarray | None = None, face_ids: list[str] | None = None,
          bounds: Bounds = BOUNDS) -> Graph:
    """If nothing else is said, every face is alone in its image."""
    count = len(embeddings)
    return Graph.of(embeddings, [f"face-{row:05d}" for row in range(count)] if face_ids is None else face_ids,
                    np.arange(count) if images is None else images, bounds)


def cluster(embeddings: np.ndarray, images: np.ndarray | None = None, face_ids: list[str] | None = None,
            bounds: Bounds = BOUNDS, persons: np.ndarray | None = None, apart: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """`cluster_faces` of `graph`. Known persons are different people, unless they are not `apart`."""
    return told(cluster_faces(graph(embeddings, images, face_ids, bounds), bounds,
                              unknown(embeddings) if persons is None else persons,
                              camps_of(unknown(embeddings) if persons is None or not apart else persons)))


def taken(graph: Graph, persons: np.ndarray, camps: csr_matrix, steps: Iterable[Step]) -> Mapping[str, Rows]:
    """What homes keep after some steps."""
    return run_here(steps, all_kinds(graph.cells), letters(graph, persons, camps, persons >= 0, ()))


def labels_of(graph: Graph, kept: Mapping[str, Rows]) -> np.ndarray:
    """Clusters int64 [N], each labelled by one of its rows."""
    row = {number: row for row, number in enumerate(graph.ids.tolist())}
    label = np.empty(len(graph.ids), np.int64)
    for head, face in zip(kept["members"]["id"].tolist(), kept["members"]["face"].tolist(), strict=True):
        label[row[face]] = row[head]
    return label


def link(graph: Graph, persons: np.ndarray, camps: csr_matrix, least: float, whole: float | None = None) -> np.ndarray:
    """Labels int64 [N] after `levels.steps`."""
    steps = levels.steps(least, whole, lambda: graph.cells, bool((persons >= 0).any()))
    return labels_of(graph, taken(graph, persons, camps, steps))


def linked(faces: np.ndarray, half: np.ndarray, images: np.ndarray, edges: Edges) -> Graph:
    """A graph of faces on the grid, [N, D]."""
    ids = digests.numbers(f"face-{row}" for row in range(len(faces)))
    return Graph(ids, faces.astype(np.int16), half, images, Cells.one(faces.shape[1]), edges, Space(None, None, None))


def camps_of(persons: np.ndarray) -> csr_matrix:
    """One camp of all known persons."""
    return csr_matrix((persons >= 0).astype(np.int64)[:, None])


def nobody(faces: np.ndarray) -> tuple[np.ndarray, csr_matrix]:
    """Persons and camps of faces of whom nothing is said."""
    return unknown(faces), camps_of(unknown(faces))


def unknown(faces: np.ndarray) -> np.ndarray:
    """Nobody among the faces is known."""
    return np.full(len(faces), -1)


def clusters_of(labels: np.ndarray) -> list[frozenset[int]]:
    return sorted((frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)), key=min)


def all_pairs(faces: np.ndarray, half: np.ndarray) -> Edges:
    return strong_edges(faces, half, -9, len(faces))


NO_EDGES = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


# --- whole runs ---


def test_faces_of_a_picture_are_told_apart_where_all_vectors_share_a_mean():
    """As raw dlib descriptors do: the plain cosine of any two is above what otherwise makes them one person beyond doubt."""
    embeddings, truth = crowd(20, 6, 64, noise=1.0)
    images = np.arange(120) % 60  # two people each
    shared = np.ones(64) / 8 * 2.5
    raw = embeddings + shared.astype(np.float32)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    assert (raw[:60] * raw[60:]).sum(axis=1).min() > BOUNDS.strict_same_person
    faces = pa.table({"face_id": [f"{image:032x}:{row // 60}" for row, image in enumerate(images)],
                      "image_key": [f"{image:032x}" for image in images],
                      "embedding": pa.FixedSizeListArray.from_arrays(raw.astype(np.float32).ravel(), 64)})
    bounds = face_models.bounds(Embedder("dlib", "raw", "0" * 64, "", 64))
    face_ids = faces["face_id"].to_pylist()
    label, _ = told(clustered(face_ids, graph_of(faces, bounds), bounds, Known()))
    label_of = dict(zip(face_ids, label.tolist(), strict=True))
    assert all(label_of[f"{image:032x}:0"] != label_of[f"{image:032x}:1"] or label_of[f"{image:032x}:0"] == -1
               for image in range(60))


def test_known_persons_that_nobody_tells_apart_may_be_one():
    embeddings, _ = crowd(40, 6, 64)
    persons = unknown(embeddings)
    persons[:6] = [3, 3, 3, 4, 4, 4]  # of one person
    assert len(set(cluster(embeddings, persons=persons)[0][:6].tolist())) == 2
    assert len(set(cluster(embeddings, persons=persons, apart=False)[0][:6].tolist())) == 1


@pytest.mark.parametrize("people", [4, 40])  # fewer than 30 faces, and more
def test_what_is_known_holds_whatever_the_vectors_say(people):
    embeddings, truth = crowd(people, 6, 64)
    persons = unknown(embeddings)
    persons[[0, 6]] = 7  # two people, said to be one
    persons[[12, 13]] = 8  # one person, said to be two
    persons[[14, 15]] = 9
    labels, _ = cluster(embeddings, persons=persons)
    assert labels[0] == labels[6] >= 0
    assert labels[12] == labels[13] != labels[14] == labels[15]
    assert (labels[[12, 14]] >= 0).all()
    assert bcubed(labels[18:], truth[18:]).f == 1  # nobody else is touched


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_known_people_are_one_cluster_each_and_never_meet(data):
    people, each = data.draw(st.integers(2, 8)), data.draw(st.integers(2, 8))
    embeddings, _ = crowd(people, each, 16, seed=data.draw(st.integers(0, 9)), noise=0.8)
    count = len(embeddings)
    persons = np.array(data.draw(st.lists(st.sampled_from([-1, -1, -1, 0, 1, 2]), min_size=count, max_size=count)))
    images = np.array(data.draw(st.lists(st.integers(0, count // 2), min_size=count, max_size=count)))
    labels, _ = cluster(embeddings, images, persons=persons)
    known = [set(labels[persons == person].tolist()) for person in np.unique(persons[persons >= 0])]
    assert all(len(one) == 1 and min(one) >= 0 for one in known) and len(set().union(*known)) == len(known)


@pytest.mark.parametrize("people", [4, 40])  # fewer than 30 faces, and more
def test_people_are_told_apart(people):
    embeddings, truth = crowd(people, 6, 64)
    labels, central = cluster(embeddings)
    assert bcubed(labels, truth).f == 1
    assert labels.tolist() == [row // 6 for row in range(6 * people)]  # numbered by the least face_id
    expected = [embeddings[row] @ embeddings[row // 6 * 6:row // 6 * 6 + 6].sum(0)
                / np.linalg.norm(embeddings[row // 6 * 6:row // 6 * 6 + 6].sum(0)) for row in range(6 * people)]
    assert np.allclose(central, expected, atol=1e-3)


def test_no_faces_one_face_and_the_same_face_many_times():
    assert [part.tolist() for part in cluster(np.zeros((0, 8), np.float32))] == [[], []]
    one = np.eye(8, dtype=np.float32)[:1]
    assert [part.tolist() for part in cluster(one)] == [[0], [1]]
    for count in (2, 29, 30, 31, 2500):
        labels, central = cluster(np.repeat(one, count, axis=0))
        assert set(labels.tolist()) == {0} and np.allclose(central, 1)


@pytest.mark.parametrize("count", [12, 60])
def test_faces_of_one_image_are_different_people_unless_two_are_one_beyond_doubt(count):
    same = np.repeat(np.eye(8, dtype=np.float32)[:1], count, axis=0)
    one_image = np.zeros(count, int)
    doubt = Bounds(**{**BOUNDS.__dict__, "strict_same_person": 1.1})
    assert len(set(cluster(same, one_image, bounds=doubt)[0].tolist())) == count
    assert len(set(cluster(same, one_image)[0].tolist())) == 1


def test_a_face_unlike_its_identity_belongs_to_nobody():
    embeddings, _ = crowd(20, 10, 64, noise=0.3)
    strict = Bounds(**{**BOUNDS.__dict__, "outlier": 0.97})
    labels, central = cluster(embeddings, bounds=strict)
    assert np.array_equal(labels < 0, central < 0.97) and 0 < (labels < 0).sum() < 200
    known = labels[labels >= 0]
    assert sorted(set(known.tolist())) == list(range(known.max() + 1))


def test_vectors_with_a_large_common_mean_are_clustered_like_those_without():
    embeddings, truth = crowd(50, 4, 64)
    common = 0.41 * embeddings + 0.91 * np.eye(64, dtype=np.float32)[0]
    common /= np.linalg.norm(common, axis=1, keepdims=True)
    images = np.arange(200) % 4 + np.arange(200) // 8 * 4  # two people an image, each in four of them
    assert bcubed(cluster(common, images)[0], truth).f > 0.98


def test_what_is_no_unit_vector_is_refused():
    with pytest.raises(ValueError, match="unit length, not of 2.0"):
        graph(2 * np.eye(2, 8, dtype=np.float32))


@st.composite
def albums(draw):
    """Faces of a few people in images of up to three: embeddings, images."""
    people, each = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    embeddings, _ = crowd(people, each, 16, draw(st.integers(0, 99)), draw(st.sampled_from([0.2, 0.8, 1.5])))
    count = len(embeddings)
    return embeddings, np.array(draw(st.lists(st.integers(0, max(count // 2, 1)), min_size=count, max_size=count)))


@settings(max_examples=50, deadline=None)
@given(albums(), st.sampled_from([7, 64]))
def test_blocks_and_numbers_of_images_change_no_byte(album, block):
    embeddings, images = album
    labels, central = cluster(embeddings, images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stars, "CHUNK", block)
        patch.setattr(cells, "NUMBERS", block)
        patch.setattr(similarity.BestEdges.compare, "__defaults__", (block,))
        patch.setattr(similarity.Cohort.crowding, "__defaults__", (block,))
        other, other_central = cluster(embeddings, 1000 - images)
    assert other.tobytes() == labels.tobytes() and other_central.tobytes() == central.tobytes()


@settings(max_examples=50, deadline=None)
@given(albums())
def test_no_small_identity_has_two_faces_of_an_image(album):
    embeddings, images = album
    labels, _ = cluster(embeddings, images)
    twice = same_person_twice(embeddings, images, BOUNDS.strict_same_person - 1e-3)
    for label in set(labels[labels >= 0].tolist()):
        mates = images[(labels == label) & ~twice]
        if (labels == label).sum() < 20:
            assert len(set(mates.tolist())) == len(mates)


# --- the pieces ---


@pytest.mark.parametrize(("labels", "expected"), [
    ([], []), ([-1, -1], [-1, -1]), ([5, 2, 5, -1, 0, 2], [0, 1, 0, -1, 2, 1])])
def test_numbers_come_in_the_order_of_the_faces(labels, expected):
    assert numbered(np.array(labels, int)).tolist() == expected


def test_faces_that_cancel_out_are_like_nobody():
    labels, central = cluster(np.array([[1.0, 0], [-1, 0]], np.float32), persons=np.array([7, 7]))
    assert central.tolist() == [0, 0] and labels.tolist() == [0, 0]  # and yet it is known whose they are


def some_faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid vectors float32 [count, 5], halves int64 [count] and exclusive images int64 [count]."""
    random = np.random.default_rng(seed)
    faces = on_grid(crowd(max(count // 4, 1), 4, 5, seed, 0.7)[0])[:count]
    images = random.integers(0, max(count, 1), len(faces))
    return faces, random.integers(0, UNIT // 5, len(faces)), exclusive_images(images, np.zeros(len(faces), bool))


def scaled(faces: np.ndarray, half: np.ndarray) -> np.ndarray:
    exact = faces.astype(np.int64) @ faces.astype(np.int64).T
    return (exact - half[:, None] - half[None, :]) / UNIT


def plain_linkage(similar: np.ndarray, images: np.ndarray, edges: Edges, least: float) -> list[frozenset[int]]:
    """The most similar two clusters first that an edge connects, that are similar enough and share no image."""
    connected = {frozenset(edge) for edge in zip(edges.first.tolist(), edges.second.tolist(), strict=True)}
    clusters = [frozenset([face]) for face in range(len(similar))]
    while True:
        merges = [(similar[np.ix_(sorted(a), sorted(b))].mean(), a, b) for index, a in enumerate(clusters)
                  for b in clusters[:index]
                  if any(frozenset([face, other]) in connected for face in a for other in b)
                  and not any(images[face] == images[other] >= 0 for face in a for other in b)]
        best = max(merges, key=lambda merge: merge[0], default=(-np.inf, frozenset(), frozenset()))
        if best[0] < least:
            return sorted(clusters, key=min)
        clusters = [cluster for cluster in clusters if cluster not in best[1:]] + [best[1] | best[2]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 9999), st.floats(0, 0.6), st.floats(-0.2, 0.6))
def test_on_a_fine_ladder_the_most_similar_merge_first(people, seed, edge, join):
    faces, half, images = some_faces(4 * people, seed)
    edges = strong_edges(faces, half, edge, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "WIDTH", 1e-4)
        label = link(linked(faces, half, images, edges), *nobody(faces), join)
    assert clusters_of(label) == plain_linkage(scaled(faces, half), images, edges, join)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10), st.integers(0, 9999), st.floats(-0.2, 0.6))
def test_with_every_edge_and_no_images_it_is_scipys_average_linkage(people, seed, join):
    faces, half, _ = some_faces(4 * people, seed)
    distance = 2 - scaled(faces, half)
    np.fill_diagonal(distance, 0)
    expected = fcluster(scipy_linkage(squareform(distance, checks=False), "average"), 2 - join, "distance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "WIDTH", 1e-4)
        label = link(linked(faces, half, np.full(len(faces), -1), all_pairs(faces, half)), *nobody(faces), join)
    assert clusters_of(label) == clusters_of(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 9999), st.floats(0, 0.6), st.floats(-0.2, 0.6))
def test_when_it_ends_nothing_is_left_to_merge(people, seed, edge, join):
    faces, half, images = some_faces(4 * people, seed)
    edges, similar = strong_edges(faces, half, edge, 4), scaled(faces, half)
    label = link(linked(faces, half, images, edges), *nobody(faces), join)
    for first, second in zip(label[edges.first], label[edges.second], strict=True):
        ours, theirs = np.flatnonzero(label == first), np.flatnonzero(label == second)
        mates = (images[ours][:, None] == images[theirs][None, :]) & (images[ours] >= 0)[:, None]
        assert (first == second or similar[np.ix_(ours, theirs)].mean() < join + 1e-9
                or mates.sum() > stars.TOLERATED * min(len(ours), len(theirs)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(0, 9999), st.floats(0, 0.7))
def test_components_can_be_linked_apart(people, seed, edge):
    faces, half, images = some_faces(4 * people, seed)
    edges = strong_edges(faces, half, edge, 4)
    whole = link(linked(faces, half, images, edges), *nobody(faces), 0.1)
    graph = coo_matrix((np.ones(len(edges)), (edges.first, edges.second)), (len(faces), len(faces)))
    _, component = connected_components(graph, directed=False)
    for number in range(component.max() + 1):
        rows = np.flatnonzero(component == number)
        apart = link(linked(faces, half, images, edges).of_rows(rows), *nobody(rows), 0.1)
        assert rows[apart].tolist() == whole[rows].tolist()


@pytest.mark.parametrize(("size", "mates", "merged"), [(19, 1, False), (20, 1, True), (40, 2, True), (40, 3, False)])
def test_a_few_image_mates_are_tolerated_between_large_clusters(size, mates, merged):
    two = np.array([[1, 0], [0.9, np.sqrt(0.19)]])
    faces = on_grid(np.repeat(two, size, axis=0))
    images = np.full(2 * size, -1)
    images[:mates] = images[size:size + mates] = np.arange(mates)
    label = link(linked(faces, half := np.zeros(2 * size, np.int64), images, all_pairs(faces, half)), *nobody(faces), 0.8)
    assert (len(set(label.tolist())) == 1) == merged


def test_a_hub_takes_all_its_faces_in_few_rounds(monkeypatch):
    embeddings, _ = crowd(1, 400, 64, noise=0.4)
    faces, half, rounds = on_grid(embeddings), np.zeros(400, np.int64), []
    merge = Merging._merge
    monkeypatch.setattr(Merging, "_merge", lambda self, pairs: (rounds.append(len(pairs.low)), merge(self, pairs))[1])
    label = link(linked(faces, half, np.full(400, -1), strong_edges(faces, half, 0.5, 16)), *nobody(faces), 0.5)
    assert len(set(label.tolist())) == 1
    assert len(rounds) < 60


def lone_face(weight: float, rivals: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A face of `weight` similarity to each of five of one person, and to each of `rivals` of another; their labels."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((64, 64)))[0]
    faces = [basis[0] + 0.5 * basis[1 + n] for n in range(5)] + [basis[10] + 0.5 * basis[11 + n] for n in range(rivals)]
    faces = [face / np.linalg.norm(face) for face in faces]
    pull = weight * np.sqrt(1.25)  # the cosine of a face to its person's axis is 1 / sqrt(1.25)
    lone = pull * basis[0] + (pull * basis[10] if rivals else 0)
    rest = np.sqrt(1 - lone @ lone)
    label = np.array([0] * 5 + [5] * rivals + [5 + rivals])
    return np.array([*faces, lone + rest * basis[40]], np.float32), label


def adopted(faces: np.ndarray, label: np.ndarray, images: np.ndarray | None = None, persons: np.ndarray | None = None) -> int:
    """The first row of the cluster that the last face is in, where a mean of 0.3 is asked for, and a lead of 0.1."""
    count = len(faces)
    images = np.full(count, -1, np.int64) if images is None else images
    persons = unknown(faces) if persons is None else persons
    graph = linked(on_grid(faces), np.zeros(count, np.int64), images, NO_EDGES)
    return int(after_adoption(graph, label, persons)[-1])


def after_adoption(graph: Graph, label: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """Labels int64 [N], the first row of each cluster's, when faces alone in `label` have joined others."""
    alone = np.bincount(label, minlength=len(label))[label] == 1
    steps = [levels.Begin(), *levels.join_known(), *adoption.steps(lambda: graph.cells, 0.3, 0.1)]
    kept = taken(graph, np.where(alone, persons, label), csr_matrix((len(label), 1), dtype=np.int64), steps)
    found = labels_of(graph, kept)
    return np.array([int(np.flatnonzero(found == one)[0]) for one in found])


def test_a_lone_face_joins_whom_it_is_like_on_the_whole():
    assert adopted(*lone_face(0.35)) == 0
    assert adopted(*lone_face(0.25)) == 5


def test_a_lone_face_between_two_people_joins_neither():
    assert adopted(*lone_face(0.35, rivals=2)) == 7


def test_a_lone_face_of_whom_something_is_said_joins_nobody():
    faces, label = lone_face(0.35)
    assert adopted(faces, label, persons=np.array([-1, -1, -1, -1, -1, 9])) == 5


def test_a_lone_face_does_not_join_its_image_mate():
    faces, label = lone_face(0.35)
    assert adopted(faces, label, np.array([0, -1, -1, -1, -1, 0])) == 5


def test_of_two_lone_faces_of_one_image_the_more_similar_joins():
    faces, label = lone_face(0.35)
    nearer = lone_face(0.4)[0][-1:]
    both = np.concatenate([faces, nearer])
    images = np.array([-1] * 5 + [3, 3])
    graph = linked(on_grid(both), np.zeros(7, np.int64), images, NO_EDGES)
    assert after_adoption(graph, np.array([*label, 6]), unknown(both)).tolist()[-2:] == [5, 0]


def test_few_faces_adopt_nobody():
    faces, label = lone_face(0.35)
    assert adopted(faces[2:], label[2:]) == 3


def test_bursts_of_one_person_find_each_other():
    """Two bursts of 40 nearly equal pictures each, whose strongest edges all lie inside their own burst; and 40 strangers, of
    128 numbers, for of 64 two are alike by chance, and joined where one person is two thirds of a set."""
    random = np.random.default_rng(0)
    others, _ = crowd(40, 1, 128)
    person = random.standard_normal(128) / np.sqrt(128)
    shots = [person + 0.4 * random.standard_normal(128) / np.sqrt(128) for _ in range(2)]
    burst = np.concatenate([shot + 0.01 * random.standard_normal((40, 128)) for shot in shots])
    burst = (burst / np.linalg.norm(burst, axis=1, keepdims=True)).astype(np.float32)
    labels, _ = cluster(np.concatenate([burst, others]))
    assert len(set(labels[:80].tolist())) == 1 and len(set(labels[80:].tolist())) == 40
