"""Cutting people out: a hand-drawn outline, which the picture's colours correct."""
from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from demo.heads import Head

CUT_SIDE = 180
"""Longest side, pixels, at which a person is cut out; the outline is soft enough for eight times that."""
CUT_ROUNDS = 2
"""Rounds of the cut; each learns both sides' colours from the one before."""
CUT_DOUBT = 0.17
"""Units by which a drawn outline may be wrong: inside this band the colours decide."""
Outline = tuple[tuple[float, float], ...]
"""A person's rough silhouette, clockwise from the left temple: (across, down) in units from between the eyes, upright.

Drawn by hand over the picture, since no detector gives it; what it misses by, the colours settle."""


def sure(outline: Outline, head: Head, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where there is the person for sure, and where for sure not: bool [H, W] each."""
    drawn = Image.new("1", size)
    ImageDraw.Draw(drawn).polygon([tuple(head.origin + np.array(place) * head.unit) for place in outline], fill=1)
    person = np.asarray(drawn)
    doubt = CUT_DOUBT * head.unit
    # the picture's edge is no outline: padding keeps bodies that reach it from being eaten away there
    inside = ndimage.distance_transform_edt(np.pad(person, 1, mode="edge"))[1:-1, 1:-1] > doubt
    return inside, ndimage.distance_transform_edt(~person) > doubt


def cover_of(rgb: np.ndarray, head: Head, outline: Outline) -> np.ndarray:
    """Cover of the person, float32 [H, W] in [0, 1]: a random walker with colour priors (Grady, 2005,
    "Multilabel random walker image segmentation using prior models") that learns the colours anew from each cut, as
    GrabCut does."""
    height, width, _ = rgb.shape
    bins = 10
    bin_of = tuple((rgb.reshape(-1, 3) * (bins - 1e-6)).astype(int).T)
    laplacian = likeness_laplacian(rgb)
    surely_inside, surely_outside = sure(outline, head, (width, height))
    inside, outside = surely_inside, surely_outside
    walk = np.zeros((height, width))
    for _ in range(CUT_ROUNDS):
        mine, others = (colour_shares(bin_of, where, bins)[bin_of] for where in (inside, outside))
        prior = (mine + 1e-5) / (mine + others + 2e-5)
        trust = np.full(prior.size, 0.01)
        for where, value in ((surely_inside, 1.0), (surely_outside, 0.0)):
            prior[where.ravel()], trust[where.ravel()] = value, 1e3
        walk = spsolve((laplacian + sparse.diags(trust)).tocsc(), trust * prior).reshape(height, width)
        inside, outside = walk > 0.5, walk < 0.5
    cover = ndimage.gaussian_filter(np.clip((walk - 0.3) / 0.4, 0, 1), 0.6)
    return (np.round(cover * 255) / 255).astype(np.float32)


def likeness_laplacian(rgb: np.ndarray) -> sparse.csr_matrix:
    """Laplacian of the grid whose neighbours are linked the more strongly the more alike their colours are."""
    colours = rgb.reshape(-1, 3).astype(np.float64)
    pixel = np.arange(len(colours)).reshape(rgb.shape[:2])
    ends = np.concatenate([np.stack([pixel[:, :-1].ravel(), pixel[:, 1:].ravel()]),
                           np.stack([pixel[:-1].ravel(), pixel[1:].ravel()])], axis=1)
    likeness = np.exp(-600 * ((colours[ends[0]] - colours[ends[1]]) ** 2).sum(1)) + 1e-4
    links = sparse.coo_matrix((likeness, tuple(ends)), shape=(pixel.size, pixel.size))
    links = links + links.T
    return sparse.diags(np.asarray(links.sum(axis=1)).ravel()) - links


def colour_shares(bin_of: tuple[np.ndarray, ...], where: np.ndarray, bins: int) -> np.ndarray:
    """Histogram of the colours of some pixels, smoothed, float64 [bins, bins, bins] of sum 1."""
    counts = np.zeros((bins,) * 3)
    np.add.at(counts, tuple(plane[where.ravel()] for plane in bin_of), 1)
    smooth = ndimage.gaussian_filter(counts, 0.7)
    return smooth / smooth.sum()
