"""Cards that must be refused, and valid neighbours of them."""

TOP = {
    "key": "walk",
    "title": "A walk",
    "authors": "[A. Walker]",
    "year": "2026",
    "arxiv": '"2601.00001"',
    "headline": "positions",
    "scales": "{standard: {steps: 5, seeds: [0, 1, 2]}, paper: {steps: 7}}",
    "claims": "[]",
}
CLAIM = {
    "id": "walks",
    "statement": "A walk ends where its steps lead.",
    "where": "Theorem 1",
    "quantity": "mean position",
    "expected": '">= -100"',
    "tolerance": "0.0",
    "reason": "far beyond the spread over seeds",
    "n_seeds": "2",
    "scales": "[quick, standard]",
    "control": "true",
    "tried": '""',
}


def card(top: dict[str, str | None] | None = None, claim: dict[str, str | None] | None = None) -> str:
    """A card as text; fields are replaced by name, and left out where they are None."""
    fields = CLAIM | (claim or {})
    rows = [f"    {name}: {value}" for name, value in fields.items() if value is not None]
    claims = "\n  -\n" + "\n".join(rows)
    return "".join(
        f"{name}: {value}\n" for name, value in (TOP | {"claims": claims} | (top or {})).items() if value is not None
    )


_NO_TEXT = [
    "",
    "no",
    "on",
    "~",
    "3",
    "0123",
    "1.5",
    ".nan",
    "[a]",
    "{a: b}",
    "2026-11-26",
    "12:30:45",
    '" "',
    "!!binary Zm9v",
]
_NO_WHOLE = [
    "",
    "no",
    "two",
    '"2"',
    "2.0",
    "1e1",
    "0",
    "-1",
    "012",
    "0x2",
    "1:30",
    ".inf",
    "[2]",
    "{}",
    "9" * 31,
    "9" * 5000,
]
BAD_FIELDS = {
    "key": [*_NO_TEXT, "a walk", "a,b", "../walk", "läufer", "a/b", "w=1", '"a\\nb"', "$HOME", "*walk", "&walk", "@"],
    "title": [*_NO_TEXT, "!!str walk", "!walk A"],
    "authors": ["A. Walker", "", "no", "[]", "[1]", "[no]", "[[A]]", '[""]', "{a: b}", "[0123]", "[2026-11-26]"],
    "year": [*_NO_WHOLE, "20260", "2026-11-26", "2o26", "1599"],
    "arxiv": ["2601.00001", "260100001", "no", "~", "[a]", "arXiv:2601.00001", '"2601.1"', '"2601.00001 "', "Theorem"],
    "headline": [*_NO_TEXT, "figures/positions", "positions.png", "..", "a b"],
    "scales": ["", "no", "quick", "[standard]", "3", "{huge: {}}", "{Standard: {}}", "{no: {}}", "{1: {}}", "{~: {}}"],
    "claims": ["", "no", "walks", "{}", "3", "[walks]", "[3]", "[[]]", "[~]", "[{}]", "[{id: walks}]", "[no]"],
}
BAD_SCALES = {
    "steps": [
        "5.0",
        '"5"',
        "yes",
        "0123",
        "0x10",
        "1:30",
        "1e1",
        "[5]",
        "~",
        "-3",
        "0",
        ".nan",
        "9" * 31,
    ],
    "lr": ["1e-3", "1.5e3", ".nan", "-.inf", ".inf", "-0.5", '"0.5"', "no", "1:30.5", "[0.5]", "{}", "2026-11-26"],
    "seeds": ["3", "[0, a]", "[0, 0]", "[]", "[-1]", "[0.0]", "[no]", "[012]", "[[0]]", "{0: 1}", "[0, ~]", "0, 1"],
    "names": ["a", "[1]", "[no, a]", "[on]", "[]", "[~]", "{a: b}", "[2026-11-26]"],
    "label": ["no", "3", "[a]", "~", "0123", ".inf"],
    "controls": ["0", '"no"', "maybe", "[true]", "~"],
    "stepz": ["5"],
    "scale": ["quick"],
}
BAD_CLAIMS = {
    **{name: _NO_TEXT for name in ("statement", "where", "quantity", "reason")},
    "id": [*_NO_TEXT, "läuft", "a b", "../x"],
    "expected": [
        "",
        "no",
        "high",
        '"> 2"',
        '">= two"',
        '">= .nan"',
        '"=< 2"',
        ".nan",
        ".inf",
        "[1]",
        "{}",
        "9" * 400,
        "012",
    ],
    "tolerance": ["", "no", "-0.1", "-1", ".nan", ".inf", "1e-3", '"0"', "[0]", "9" * 400, "0x1"],
    "n_seeds": [*_NO_WHOLE, "10001"],
    "scales": ["quick", "[]", "[huge]", "[no]", "[[quick]]", "{quick: 1}", "3", "~", "[{}]"],
    "control": ["0", "1", '"no"', "maybe", "~", "[]", "nope"],
    "tried": ["no", "3", "[a]", "~", "{}"],
    "statment": ["a spare field"],
    "0": ["a field that is no word"],
}
# Each list holds eight of the one before: after eight of them, a hundred million words.
_LAUGHS = "".join(f", &{b} [{','.join(['*' + a] * 8)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
_ROW = "{id: a, statement: b, where: c, quantity: d, expected: 1.0, tolerance: 0.0, reason: e}"
BAD_CARDS = {
    "empty": b"",
    "spaces": b" \n\n",
    "only a comment": b"# nothing\n",
    "a list": b"- key: walk\n",
    "a word": b"walk",
    "a number": b"3",
    "null": b"~",
    "binary": bytes(range(256)),
    "png": b"\x89PNG\r\n\x1a\n" + b"\x00" * 50,
    "utf-16": card().encode("utf-16"),
    "latin-1": card({"title": "Größe"}).encode("latin-1"),
    "null byte": card().encode() + b"\x00",
    "tabs": card().replace("    id", "\tid").encode(),
    "unclosed": b"key: [walk",
    "unclosed quote": card().encode() + b'more: "walk',
    "two documents": card().encode() + b"---\n" + card().encode(),
    "a field twice": card().encode() + b"year: 2026\n",
    "a parameter twice": card({"scales": "{standard: {steps: 5, steps: 6}}"}).encode(),
    "an unknown field": card().encode() + b"journal: none\n",
    "a merge of nothing": card().encode() + b"<<: 3\n",
    "an unknown anchor": card({"scales": "*standard"}).encode(),
    "a list in itself": card({"authors": "&a [A, *a]"}).encode(),
    "a mapping in itself": card({"scales": "&a {standard: *a}"}).encode(),
    "many laughs": card({"authors": f"[&a [x,x,x,x,x,x,x,x]{_LAUGHS}]"}).encode(),
    "deep": b"[" * 200_000,
    "deep and closed": b"key: " + b"[" * 100 + b"]" * 100,
    "deep in blocks": b"- " * 50_000 + b"a",
    "a python object": card({"title": "!!python/object/apply:os.getcwd []"}).encode(),
    "a complex key": card().encode() + b"? [a]\n: b\n",
    "a set": card({"scales": "!!set {standard}"}).encode(),
    "two claims of one id": card({"claims": f"[{_ROW}, {_ROW}]"}).encode(),
}
GOOD_CARDS = {
    "as it is": card(),
    "with anchors": card({"scales": "{standard: &a {steps: 5, seeds: [0, 1, 2]}, paper: {<<: *a, steps: 9}}"}),
    "in other scripts": card({"title": '"Größe 步"', "authors": '["Ж. Ж.", "no"]'}, {"statement": '"№ 1: ≥ ½"'}),
    "text that looks like numbers": card({"title": '"0123"'}, {"where": '"1e-3"', "reason": '"no"', "tried": '"3"'}),
    "other numbers": card(
        {"year": "1847", "arxiv": '"none"'}, {"expected": "-1", "tolerance": "1.0e-3", "n_seeds": "1"}
    ),
    "other truths": card({"scales": "{standard: {controls: yes, lr: 1.5e+3, label: '0123'}}"}, {"control": "off"}),
    "left out": card(None, {"n_seeds": None, "scales": None, "control": None, "tried": None}),
    "zero and empty": card({"scales": "{standard: {spare: 7, shift: -9.5, widths: []}, quick: {}}"}),
    "a zero in a list": card({"scales": "{standard: {counts: [1, 2]}, paper: {counts: [0, 1_000]}}"}),
    "with a byte order mark": "\ufeff" + card(),
    "with carriage returns": card().replace("\n", "\r\n"),
    "with comments": "# a card\n" + card() + "# the end",
}
