"""What a small `bnjax verify` might have found: a row of each standing."""

import copy

from bnjax.verify.page import Found

EVIDENCE = {
    "statement": r"dx = dy - \frac{1}{n}\sum dy",
    "hypotheses": r"n \ge 1",
    "shapes": ["n"],
    "code": [{"file": "bnjax/somewhere.py", "line": 7, "text": "def backward(dy):\n    return dy < 0\n"}],
    "program": "{ lambda ; a:f32[n]. let b:f32[n] = neg a in (b,) }",
}
CLAIM = (
    "Over the reals, it is so. Trusted: JAX's tracing. Not covered: rounding. Outside the claim: all else."
)


def row(number, name, **found):
    mistake = {"name": "without the mean", "real": True, "refused": True, "refuted": True}
    counted = {"mutants": 1, "refused": 1, "real": 1, "refuted": 1}
    return {
        "number": number,
        "name": name,
        "checked": True,
        "proof": "proved",
        "claim": CLAIM,
        **counted,
        "rounding": 3.6e-07,
        "reason": "",
        "open": [],
        "mistakes": [mistake | {"seen": "counterexample: dy = [0, -6] <& more"}],
        "rests_on": [],
        "evidence": copy.deepcopy(EVIDENCE),
        "ok": True,
    } | found


PROVENANCE = {"bnjax": "9.9.9", "commit": "0123456789ab", "date": "2001-02-03T04:05:06+00:00", "jax": "7.7.7"}

VERIFY = {
    "ok": False,
    "provenance": PROVENANCE,
    "theorems": [
        row(1, "the first"),
        row(2, "the second", rests_on=["1"]),
        row(3, "a wrong one", rests_on=["1", "2"], proof="refuted", checked=False, reason="dx differs"),
        row(4, "one whose mistakes live", refused=0, mistakes=[], ok=False),
    ],
    "lemmas": [
        row(None, "a conditional one", rests_on=["2"], proof="conditional", open=["Σ w ≠ 0"]),
        row(
            None, "an unread one", proof="refused", reason="iota: not modelled", rounding=None, evidence=None
        ),
    ],
    "networks": [
        {
            "name": "a network",
            "proof": "conditional",
            "claim": CLAIM,
            "reason": "",
            "open": ["the derivative of layer is right"],
            "pieces": [{"piece": "layer", "where": "net.py:3", "for every N": "refused"}],
            "planted": {"proof": "refuted", "reason": "the rule of layer 2 is wrong", "seen": "x = [1]"},
            "ok": True,
        }
    ],
    # a list that this page knows nothing of, from a later bnjax
    "others": [{"name": "another", "status": "proved"}],
}

COQ = {
    "provenance": PROVENANCE | {"coq": "8.8.8"},
    "axioms": ["ClassicalDedekindReals.sig_not_dec"],
    "claims": [
        {
            "title": title,
            "shape": shape,
            "file": f"{shape.replace(' ', '')}.v",
            "status": status,
            "reason": "" if status == "checked" else "the identity: no",
            "seconds": 1.5,
            "theorems": ["Theorem vjp (n : nat) :\n  (0 < n)%nat ->\n  x = x."],
        }
        for title, statuses in {
            "1 the first": ("checked", "checked"),
            "3 a wrong one": ("checked", "refused"),
        }.items()
        for shape, status in zip(("n", "n C"), statuses, strict=True)
    ],
}

TABLES = """# Results

## [lift](lift)

| norm | loss |
| --- | --- |
| batch | 0.929 |

## Memory

Nothing is drawn of it; [more](elsewhere.md).
"""
SVG = (
    '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" '
    'viewBox="0 0 9 9"><defs><path id="m" d="M0 0h1" style="stroke: #757a80"/></defs>'
    '<use href="#m"/><text>loss</text></svg>'
)
TRUSTED = "If it says so, [these](bnjax/somewhere.py) are believed:\n\n| file | for |\n|---|---|\n| a | b |\n"

FOUND = Found(VERIFY, COQ, TABLES, {"lift/lift.svg": SVG, "odd.svg": SVG}, TRUSTED)
