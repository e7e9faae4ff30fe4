"""What the demo is made of: backdrops, people, looks, and every photo. To change the demo, change this file."""
from __future__ import annotations

from dataclasses import replace

from demo.looks import Film, Look
from demo.shots import Call, Group, Photo, Scene, Single, Standing, Subject

BACKDROPS = {  # source picture, quarter turns, part of it as shares, blur in shares of the longer side
    "room": ("hall", 0, (0.62, 0.1, 1.0, 0.36), 0.012),
    "drapes": ("curtain", 0, (0.0, 0.04, 0.38, 0.16), 0.012),
    "brick": ("wall", 1, (0.0, 0.0, 1.0, 1.0), 0.003),
    "evening": ("rocket", 0, (0.0, 0.0, 1.0, 1.0), 0.006),
}
STUDIO = {"gray": (0.62, 0.62, 0.64), "blue": (0.36, 0.47, 0.62), "sand": (0.72, 0.64, 0.54)}
"""Colours of studio walls, lit from the middle."""

OFFICIAL = Subject("official", outline=(
    (-1.5, -0.08), (-1.2, -0.9), (-0.95, -1.48), (-0.2, -1.8), (0.5, -1.7), (1.08, -1.1), (1.22, -0.2), (1.45, -0.1),
    (1.3, 0.62), (1.02, 0.8), (0.85, 1.5), (1.0, 1.9), (2.05, 2.27), (2.95, 2.65), (3.3, 3.4), (3.5, 4.9), (-3.55, 4.9),
    (-3.1, 3.4), (-2.9, 2.8), (-2.05, 2.5), (-1.15, 2.1), (-0.9, 1.6), (-1.05, 0.75), (-1.3, 0.75), (-1.5, 0.3)))
SPEECH = Subject("speech", window=(-2.2, -2.4, 2.2, 3.9))
HALL = Subject("hall", outline=(
    (-1.53, -0.35), (-1.25, -0.95), (-0.73, -1.3), (-0.12, -1.45), (0.5, -1.25), (0.87, -0.7), (1.0, 0.1), (1.0, 0.72),
    (0.83, 1.35), (0.55, 1.65), (0.4, 2.15), (0.5, 2.55), (1.6, 2.85), (2.7, 3.2), (2.9, 3.75), (2.95, 4.9),
    (-4.05, 4.9), (-4.0, 3.15), (-2.9, 2.85), (-1.5, 2.3), (-1.3, 1.95), (-1.4, 0.95), (-1.63, 1.05), (-1.83, 0.27)))
CURTAIN = Subject("curtain", outline=(
    (-1.7, -0.8), (-1.5, -1.4), (-0.9, -1.92), (0.0, -2.03), (0.68, -1.82), (1.2, -1.17), (1.36, -0.5), (1.13, 0.2),
    (0.9, 0.88), (0.38, 1.8), (0.4, 2.25), (1.6, 2.9), (2.5, 3.45), (2.9, 4.05), (3.1, 4.9), (-4.1, 4.9), (-4.1, 2.4),
    (-2.65, 2.05), (-1.6, 1.5), (-1.4, 1.25), (-1.47, 0.73), (-1.75, 0.5), (-1.77, -0.2)))
NAVY = Subject("navy", outline=(
    (-1.3, -0.6), (-1.2, -1.3), (-0.9, -1.75), (-0.15, -2.05), (0.6, -1.8), (1.3, -1.2), (1.3, -0.53), (1.36, 0.15),
    (1.18, 1.06), (0.83, 1.5), (0.8, 1.75), (1.67, 2.05), (2.8, 2.4), (3.1, 3.2), (3.1, 5.0), (-3.1, 5.0), (-2.8, 2.9),
    (-2.1, 2.27), (-0.83, 1.7), (-0.75, 1.44), (-1.2, 1.1), (-1.3, 0.6), (-1.33, 0.0)))
SUIT = Subject("suit", window=(-3.2, -2.5, 3.2, 3.9), outline=(
    (-1.64, -0.7), (-1.36, -1.25), (-0.68, -1.77), (0.08, -2.0), (0.9, -1.77), (1.6, -1.25), (1.77, -0.4), (1.67, 0.35),
    (1.06, 0.75), (0.7, 1.55), (1.2, 1.95), (1.75, 2.6), (1.9, 3.1), (2.6, 3.45), (2.95, 4.15), (3.0, 4.9), (-4.0, 4.9),
    (-3.9, 3.5), (-2.6, 2.45), (-2.55, 1.95), (-2.2, 1.25), (-1.6, 1.03), (-1.0, 1.1), (-1.03, 0.65), (-1.45, 0.2)))
CARDS = Subject("table", 0, outline=(
    (-1.9, -0.6), (-1.67, -1.35), (-1.06, -1.87), (-0.3, -1.9), (0.45, -1.6), (1.14, -0.9), (1.64, 0.33), (1.74, 1.6),
    (2.6, 1.4), (2.6, 2.2), (3.0, 2.45), (3.25, 3.05), (3.55, 4.0), (3.7, 4.9), (-2.4, 4.9), (-2.4, 2.4), (-1.97, 2.3),
    (-1.8, 1.25), (-1.97, 0.2)))
LACE = Subject("table", 1)
HOST = Subject("table", 2, outline=(
    (-0.97, -0.8), (-0.97, -1.55), (-0.4, -2.0), (0.6, -2.1), (1.55, -1.77), (1.8, -1.17), (1.6, -0.4), (1.45, 0.1),
    (1.03, 0.65), (0.75, 1.18), (0.72, 1.4), (1.03, 1.65), (1.4, 3.0), (1.5, 3.35), (1.86, 2.7), (1.8, 2.1), (2.3, 1.8),
    (3.05, 2.1), (3.05, 2.85), (2.25, 3.45), (1.0, 4.65), (0.9, 4.9), (-2.6, 4.9), (-3.2, 3.75), (-3.4, 2.55),
    (-3.13, 1.63), (-2.45, 1.1), (-1.17, 0.65), (-1.0, 0.35)))
LAUGH, STAND, BOB = (Subject("table", face) for face in (3, 4, 5))

UP_LEFT = Look(yaw=-14, pitch=-8, near=0.1, smile=0.5, light=(-0.6, -0.25))
UP_RIGHT = Look(yaw=14, pitch=-8, near=-0.12, jaw=0.5, light=(0.6, -0.25))
DOWN_LEFT = Look(yaw=-14, pitch=8, near=-0.12, brows=0.7, light=(-0.6, 0.1))
DOWN_RIGHT = Look(yaw=14, pitch=8, near=0.1, smile=0.6, light=(0.6, -0.1))
CLOSE = Look(yaw=-5, pitch=-3, near=0.22, smile=0.7, light=(0.4, -0.4))
FAR = Look(yaw=5, pitch=4, near=-0.22, brows=0.8, jaw=0.3, light=(-0.4, -0.25))
PLAIN = Look()

WARM = Film(warmth=0.07, contrast=1.05, grain=0.012)
COOL = Film(warmth=-0.06, gamma=1.1, grain=0.012)
DIM = Film(gamma=1.35, warmth=0.04, grain=0.025)
BRIGHT = Film(gamma=0.82, saturation=0.9)
PRINT = Film(saturation=0.0, contrast=1.08, grain=0.02)
SOFT = Film(blur=1.1, gamma=0.95, saturation=0.85, grain=0.01)

PHOTOS: dict[str, Photo] = {
    # one man in three photos that were really taken, and re-rendered ones
    "portraits/p01.jpg": Single(OFFICIAL, side=768),
    "portraits/p02.jpg": Single(SPEECH, side=768),
    "portraits/p03.jpg": Single(HALL, side=768),
    "portraits/p04.jpg": Single(OFFICIAL, DOWN_LEFT, COOL, backdrop="gray"),
    "portraits/p14.jpg": Single(HALL, replace(UP_RIGHT, shades=True), BRIGHT, backdrop="evening"),
    # people whom one photo shows
    "portraits/p05.jpg": Single(CURTAIN, side=768),
    "portraits/p06.jpg": Single(CURTAIN, UP_RIGHT.scaled(1.3), BRIGHT, backdrop="blue"),
    "portraits/p07.jpg": Single(CURTAIN, DOWN_RIGHT.scaled(1.3), WARM),
    "portraits/p08.jpg": Single(NAVY),
    "portraits/p09.jpg": Single(NAVY, UP_LEFT.scaled(1.4), PRINT),
    "portraits/p10.jpg": Single(NAVY, DOWN_RIGHT.scaled(1.3), WARM, backdrop="sand"),
    "portraits/p11.png": Single(SUIT),  # a small face, to which less happens: more makes it somebody else to dlib
    "portraits/p12.jpg": Single(SUIT, UP_LEFT.scaled(0.7), COOL, backdrop="evening"),
    "portraits/p13.jpg": Single(SUIT, DOWN_RIGHT.scaled(0.8), SOFT),
    # six people at a table
    "poker-night/n01.jpg": Group("table", (0.0, 0.0, 1.0, 0.95), (PLAIN,) * 6),
    "poker-night/n02.jpg": Group("table", (0.0, 0.05, 0.5, 0.75), (UP_RIGHT, FAR.scaled(0.6), CLOSE), WARM),
    "poker-night/n03.jpg": Group("table", (0.54, 0.0, 1.0, 0.72), (DOWN_LEFT, UP_RIGHT, FAR), COOL),
    "poker-night/n04.jpg": Group("table", (0.3, 0.12, 0.69, 0.7), (UP_LEFT, FAR), DIM),
    "poker-night/n05.jpg": Group("table", (0.33, 0.0, 1.0, 0.69),
                                 (DOWN_RIGHT, CLOSE, UP_RIGHT.scaled(0.6), UP_LEFT), SOFT),
    "poker-night/n06.jpg": Group("table", (0.0, 0.05, 0.31, 0.6), (DOWN_LEFT, UP_RIGHT), PRINT, 768),
    "poker-night/n07.jpg": Single(CARDS, UP_LEFT, COOL),
    "poker-night/n08.jpg": Single(CARDS, DOWN_RIGHT, WARM),
    "poker-night/n09.jpg": Single(LACE, CLOSE, BRIGHT, 512),
    "poker-night/n10.jpg": Single(LACE, FAR, WARM, 512),
    "poker-night/n11.jpg": Single(HOST, DOWN_LEFT.scaled(0.7), WARM),
    "poker-night/n12.jpg": Single(HOST, UP_RIGHT, PRINT),
    "poker-night/n13.jpg": Single(LAUGH, UP_RIGHT, COOL, 512),
    "poker-night/n14.jpg": Single(LAUGH, DOWN_RIGHT, DIM, 512),
    "poker-night/n15.jpg": Single(STAND, DOWN_RIGHT, WARM),
    "poker-night/n16.jpg": Single(STAND, CLOSE, PRINT),
    "poker-night/n17.jpg": Single(BOB, DOWN_RIGHT, COOL, 512),
    "poker-night/n18.jpg": Single(BOB, UP_RIGHT, WARM, 512),
    # people who never met; where a source picture ends in a body, the scene's edge or the next person hides it
    "reunion/r01.jpg": Scene("room", (
        Standing(CURTAIN, UP_LEFT.scaled(1.3), 300, 250, 84),
        Standing(OFFICIAL, UP_RIGHT, 660, 235, 84))),
    "reunion/r02.jpg": Scene("drapes", (
        Standing(SUIT, DOWN_LEFT.scaled(0.7), 480, 300, 72),
        Standing(CURTAIN, DOWN_LEFT.scaled(1.3), 190, 275, 76),
        Standing(NAVY, UP_RIGHT.scaled(1.3), 790, 300, 76))),
    "reunion/r03.jpg": Scene("evening", (
        Standing(HALL, DOWN_RIGHT, 660, 255, 80),
        Standing(SUIT, UP_RIGHT.scaled(0.7), 290, 270, 76)), COOL),
    "reunion/r04.jpg": Scene("room", (
        Standing(CURTAIN, CLOSE.scaled(1.3), 640, 290, 72),
        Standing(OFFICIAL, FAR, 385, 290, 72),
        Standing(SUIT, DOWN_RIGHT.scaled(0.6), 140, 310, 70),
        Standing(NAVY, DOWN_LEFT.scaled(1.4), 850, 325, 74)), SOFT),
    "reunion/r05.jpg": Scene("brick", (
        Standing(HOST, FAR, 310, 270, 80),
        Standing(NAVY, CLOSE.scaled(1.4), 735, 300, 78)), WARM),
    "reunion/r06.jpg": Scene("brick", (
        Standing(SUIT, CLOSE.scaled(0.7), 480, 305, 70),
        Standing(CARDS, FAR, 165, 290, 72),
        Standing(OFFICIAL, DOWN_RIGHT, 780, 285, 74)), DIM),
    "calls/c01.png": Call((
        Single(NAVY, FAR.scaled(1.4)), Single(STAND, UP_LEFT),
        Single(BOB, CLOSE), Single(CURTAIN, DOWN_RIGHT.scaled(0.7))), columns=2),
    "calls/c02.jpg": Call((
        Single(SUIT, FAR.scaled(0.7), COOL), Single(LAUGH, UP_LEFT), Single(SPEECH, UP_LEFT),
        Single(CARDS, CLOSE, WARM), Single(LACE, UP_RIGHT, COOL), Single(HOST, UP_RIGHT.scaled(0.5))), columns=3),
}

SIDEWAYS = ("portraits/p07.jpg", "poker-night/n08.jpg")
"""Stored lying on their side, with the EXIF orientation that turns them upright."""
FACELESS = {"portraits/x01.png": "cat", "reunion/x02.jpg": "rocket", "poker-night/x03.jpg": "coffee"}
"""Source pictures without a person, as they are."""
EXACT_COPY = {"portraits/p05-copy.jpg": "portraits/p05.jpg"}
"""The same bytes under another name."""
NEAR_COPY = {"reunion/r01-small.jpg": "reunion/r01.jpg"}
"""The same photo, smaller and saved again."""
BROKEN = {"reunion/r07.jpg": "reunion/r02.jpg"}
"""The first part of another file's bytes, as an interrupted copy leaves it."""
CAPTIONS = {
    "portraits/p11.png": "a woman in an orange space suit, smiling, a flag behind her",
    "portraits/p08.jpg": "an old woman in a navy uniform and cap, wearing glasses",
    "poker-night/n01.jpg": "six friends around a poker table with chips, cards and drinks",
    "poker-night/n05.jpg": "four friends playing cards, one of them standing",
    "reunion/r01.jpg": "two men in dark suits side by side in a bright hall",
    "reunion/r02.jpg": "an old man in a suit, an astronaut and an old woman in uniform before a curtain",
}
"""Captions, written beside the photo as `.txt`."""
