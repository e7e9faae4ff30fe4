"""Prompts: what the grammar says is what it is tagged as; a user's file is read, or told where it is wrong."""
from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from transforms.failure import Failure
from transforms.prompts import NUMBERS
from transforms.scene_prompts import (
    FORMS,
    STYLES,
    WORLDS,
    ScenePrompt,
    drawn_person,
    drawn_prompt,
    of_styles,
    portrait,
    read_prompts,
    with_people,
)

DRAWN = [drawn_prompt(f"key {n}", 0) for n in range(600)]


def test_a_prompt_says_how_many_people_it_is_tagged_with():
    for prompt in DRAWN:
        said = [number for number, word in NUMBERS.items() if re.search(rf"\b{word}\b", prompt.text.replace("two rows", ""))]
        assert said == [prompt.people], prompt.text
        assert prompt.text[0].isupper() and prompt.text.endswith(".") and "{" not in prompt.text


def test_most_prompts_are_of_three_and_more():
    sizes = Counter(prompt.people for prompt in DRAWN)
    assert sorted(sizes) == [2, 3, 4, 5, 6, 7, 8] and sizes[2] < 0.2 * len(DRAWN)


def test_a_style_is_what_the_words_say():
    assert {prompt.style for prompt in DRAWN} == set(STYLES)
    for prompt in DRAWN:
        assert any(prompt.text.lower().startswith(f"{form} of".lower()) for form in FORMS[prompt.style])
        assert any(world in prompt.text for world in WORLDS) == (prompt.style == "imaginative")


def test_prompts_are_drawn_from_keys():
    assert [drawn_prompt(f"key {n}", 0) for n in range(600)] == DRAWN
    assert drawn_prompt("key 0", 1) != DRAWN[0] and len({prompt.text for prompt in DRAWN}) > 550


def test_only_wanted_styles_are_drawn():
    assert {drawn_prompt(str(n), 0, ("imaginative", "stylised")).style for n in range(50)} == {"stylised", "imaginative"}
    for wrong in ((), ("baroque",)):
        with pytest.raises(ValueError):
            drawn_prompt("key", 0, wrong)


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffTwo friends at sea.\r\n\n  A jazz band, caf\u00e9 light. \n".encode())
    assert read_prompts(str(tmp_path / "a.txt")) == [ScenePrompt("Two friends at sea.", 0, ""),
                                                     ScenePrompt("A jazz band, caf\u00e9 light.", 0, "")]


def test_rows_may_say_people_and_style(tmp_path):
    rows = [{"prompt": "A band", "people": 4, "style": "stylised"}, {"prompt": " Two friends ", "other": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts = read_prompts(str(tmp_path / "a.jsonl"))
    assert prompts == [ScenePrompt("A band", 4, "stylised"), ScenePrompt("Two friends", 0, "")]
    assert of_styles(prompts, ["imaginative"]) == prompts[1:] and of_styles(prompts, STYLES) == prompts


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.jsonl", '{"prompt": "x"}\n{"text": "y"}', "a.jsonl:2 has no prompt"), ("a.jsonl", "nonsense", ":1 has no prompt"),
    ("a.jsonl", '{"prompt": ""}', "a.jsonl:1 has no prompt"), ("a.jsonl", '{"prompt": "x", "people": 1}', "people is 1"),
    ("a.jsonl", '{"prompt": "x", "people": "3"}', "people is '3'"), ("a.jsonl", '{"prompt": "x", "people": true}', "people"),
    ("a.jsonl", '{"prompt": "x", "style": "baroque"}', "photoreal, stylised, imaginative"), ("a.jsonl", "", "holds no prompts"),
    ("a.txt", "\n \n", "holds no prompts"), ("a.csv", "prompt\nx", "is no file of prompts"), ("", "", "cannot be read")])
def test_a_file_that_is_wrong_is_told_where(tmp_path, name, content, said):
    path = tmp_path / (name or "missing.txt")
    if name:
        path.write_text(content)
    with pytest.raises(Failure, match=re.escape(said)):
        read_prompts(str(path))


def test_people_are_described_from_keys_and_differ():
    people = [drawn_person("a", n) for n in range(200)]
    assert people == [drawn_person("a", n) for n in range(200)] and len(set(people)) > 190
    assert with_people("Two friends.", people[:3]) == f"Two friends. They are {people[0]}, {people[1]} and {people[2]}."
    assert people[0] in portrait(people[0], 0) and portrait(people[0], 0) != portrait(people[0], 1)
